// The interpreter as an extension module of its own, built without PyTorch.
#include "interp/interpreter.h"
#include "interp/python_functions.h"

namespace {

PyModuleDef module_definition = {PyModuleDef_HEAD_INIT,
                                 "_interp",
                                 "Fulmen's interpreter alone.",
                                 0,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr,
                                 nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__interp() {
  PyObject* module = PyModule_Create(&module_definition);
  if (!module) return nullptr;
  if (fulmen::interp::init() && fulmen::interp::add_functions(module)) return module;
  Py_DECREF(module);
  return nullptr;
}
