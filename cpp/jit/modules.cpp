// torch.nn.Module, followed without its Python code where that is the same at every call.
#include "jit/acquisition.h"
#include "py/private_api.h"

namespace fulmen::jit {

using interp::Answer;
using interp::Args;
using interp::Prov;
using interp::Val;

// Module.__getattr__: parameters, then buffers, then submodules.
Answer Acquisition::module_attribute(const Args& args, Val* result) {
  if (args.total() != 2) return Answer::kNotHandled;
  PyObject *module = args.objects[0], *name = args.objects[1];
  PyObject** place = _PyObject_GetDictPtr(module);
  if (!place || !*place) return Answer::kNotHandled;
  static PyObject* const groups[] = {PyUnicode_InternFromString("_parameters"),
                                     PyUnicode_InternFromString("_buffers"),
                                     PyUnicode_InternFromString("_modules")};
  GuardProgram& g = entry_->guards;
  Prov* p = source(args.at(0));
  for (PyObject* group : groups) {
    PyObject* dict = PyDict_GetItemWithError(*place, group);
    if (!dict || !PyDict_Check(dict)) return Answer::kNotHandled;
    Prov* d = nullptr;
    if (p && !is_written(module, group)) {
      const int attributes = g.fetch(Fetch::kInstanceDict, static_cast<int>(p->id), nullptr);
      d = track(g.fetch(Fetch::kDictItem, attributes, group), dict);
    }
    PyObject* value = PyDict_GetItemWithError(dict, name);
    if (!value) {
      if (PyErr_Occurred()) return Answer::kError;
      if (d && !is_written(dict, name)) g.require_absent(static_cast<int>(d->id), name);
      continue;
    }
    *result = {Py_NewRef(value), nullptr};
    result->p = d && !is_written(dict, name)
                    ? track(g.fetch(Fetch::kDictItem, static_cast<int>(d->id), name), value)
                    : known(value);
    return to_proxy(result) ? Answer::kDone : Answer::kError;
  }
  return Answer::kNotHandled;
}

}  // namespace fulmen::jit
