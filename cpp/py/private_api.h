// Functions that libpython exports in every supported version without a public header in each.
#pragma once
#include "py/version.h"

extern "C" {
PyAPI_FUNC(PyObject*) _PyObject_GenericGetAttrWithDict(PyObject*, PyObject*, PyObject*, int);
PyAPI_FUNC(int) _PyObject_GenericSetAttrWithDict(PyObject*, PyObject*, PyObject*, PyObject*);
PyAPI_FUNC(PyObject*) _PyType_Lookup(PyTypeObject*, PyObject*);
PyAPI_FUNC(PyObject**) _PyObject_GetDictPtr(PyObject*);
PyAPI_FUNC(int) _PyObject_GetMethod(PyObject*, PyObject*, PyObject**);
PyAPI_FUNC(int) _PySet_Update(PyObject*, PyObject*);
PyAPI_FUNC(int) _PyGen_SetStopIterationValue(PyObject*);
PyAPI_FUNC(int) _PyGen_FetchStopIterationValue(PyObject**);
PyAPI_FUNC(int) _Py_CheckRecursiveCall(PyThreadState*, const char*);
PyAPI_FUNC(int) _PyDict_MergeEx(PyObject*, PyObject*, int);
PyAPI_FUNC(PyObject*) _PyObject_FunctionStr(PyObject*);
PyAPI_FUNC(PyObject*) _PyUnicode_JoinArray(PyObject*, PyObject* const*, Py_ssize_t);
PyAPI_FUNC(PyObject*) _PyDict_GetItem_KnownHash(PyObject*, PyObject*, Py_hash_t);
PyAPI_FUNC(PyObject*) _PyErr_FormatFromCause(PyObject*, const char*, ...);
}

namespace fulmen::py {

// The class's own dictionary; borrowed. Types of the core keep theirs elsewhere since 3.12.
inline PyObject* type_dict(PyTypeObject* type) {
#if FULMEN_PY_312_UP
  PyObject* dict = PyType_GetDict(type);
  Py_XDECREF(dict);
  return dict;
#else
  return type->tp_dict;
#endif
}

}  // namespace fulmen::py
