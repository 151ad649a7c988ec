#include "jit/kinds.h"

#include "bridge/bridge.h"
#include "jit/recipe.h"
#include "py/private_api.h"

namespace fulmen::jit {

bool is_plain_value(PyObject* o) {
  PyTypeObject* t = Py_TYPE(o);
  return t == &PyLong_Type || t == &PyFloat_Type || t == &PyUnicode_Type || t == &PyBytes_Type ||
         t == &PyComplex_Type || t == &PyRange_Type || t == &PySlice_Type;
}

bool is_derived_value(PyObject* o) {
  return PyLong_Check(o) || PyFloat_Check(o) || PyUnicode_Check(o) || PyBytes_Check(o) ||
         PyComplex_Check(o);
}

bool is_singleton(PyObject* o) {
  return o == Py_None || PyBool_Check(o) || o == Py_Ellipsis || o == Py_NotImplemented;
}

bool is_identity(PyObject* o) {
  return PyType_Check(o) || PyModule_Check(o) || PyCFunction_Check(o) || PyCode_Check(o) ||
         Py_IS_TYPE(o, &PyMethodDescr_Type) || Py_IS_TYPE(o, &PyWrapperDescr_Type) ||
         Py_IS_TYPE(o, &PyGetSetDescr_Type) || is_enum_member(o);
}

bool is_container(PyObject* o) {
  return PyTuple_Check(o) || PyList_Check(o) || PyDict_Check(o) || PyAnySet_Check(o);
}

PyTypeObject* type_in(const char* path) {
  return reinterpret_cast<PyTypeObject*>(bridge::resolve_torch_name(path));
}

bool is_deque(PyObject* o) {
  static PyTypeObject* type = type_in("collections.deque");
  return type && PyObject_TypeCheck(o, type);
}

bool hashes_by_identity(PyObject* o) { return Py_TYPE(o)->tp_hash == PyBaseObject_Type.tp_hash; }

bool is_partial(PyObject* o) {
  static PyTypeObject* type = type_in("functools.partial");
  return type && PyObject_TypeCheck(o, type);
}

bool compares_by_identity(PyObject* o) {
  static PyObject* const eq = PyUnicode_InternFromString("__eq__");
  PyTypeObject* t = Py_TYPE(o);
  return t->tp_richcompare == PyBaseObject_Type.tp_richcompare ||
         _PyType_Lookup(t, eq) == _PyType_Lookup(&PyBaseObject_Type, eq);
}

}  // namespace fulmen::jit
