// What stands for the interpreter on a Python whose frames and bytecode it does not know.
#include <Python.h>

#include "interp/python_functions.h"

namespace fulmen::interp {

namespace {

PyObject* interpret(PyObject*, PyObject*, PyObject*) {
  return PyErr_Format(PyExc_NotImplementedError,
                      "interpret(): got Python %.20s; expected CPython 3.11, 3.12 or 3.13 with the "
                      "GIL. The interpreter knows the bytecode and frames of these versions only.",
                      Py_GetVersion());
}

PyMethodDef functions[] = {
    {"interpret", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(interpret)),
     METH_VARARGS | METH_KEYWORDS,
     "interpret(fn, /, *args, **kwargs)\n--\n\nNot available on this Python."},
    {},
};

}  // namespace

bool add_functions(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace fulmen::interp
