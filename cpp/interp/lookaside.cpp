#include "interp/lookaside.h"

#include <alloca.h>

#include <cstring>
#include <unordered_map>

#include "interp/steps.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace {

// Constant after init_lookasides().
std::unordered_map<void*, Lookaside>& table() {
  static std::unordered_map<void*, Lookaside> map;
  return map;
}

}  // namespace

void* callee_key(PyObject* callee) {
  PyTypeObject* type = Py_TYPE(callee);
  if (PyCFunction_Check(callee)) return reinterpret_cast<PyCFunctionObject*>(callee)->m_ml;
  if (type == &PyMethodDescr_Type || type == &PyClassMethodDescr_Type) {
    return reinterpret_cast<PyMethodDescrObject*>(callee)->d_method;
  }
  if (type == &PyWrapperDescr_Type) return reinterpret_cast<PyWrapperDescrObject*>(callee);
  return callee;
}

void register_lookaside(PyObject* callable, Lookaside lookaside) {
  table()[callee_key(callable)] = lookaside;
}

bool register_method(PyTypeObject* type, const char* name, Lookaside lookaside) {
  PyObject* method = PyDict_GetItemString(py::type_dict(type), name);
  if (!method) {
    PyErr_Format(PyExc_SystemError, "%s has no %s", type->tp_name, name);
    return false;
  }
  register_lookaside(method, lookaside);
  return true;
}

bool register_builtin(const char* name, Lookaside lookaside) {
  PyObject* builtin = PyDict_GetItemString(PyEval_GetBuiltins(), name);
  if (!builtin) {
    PyErr_Format(PyExc_SystemError, "there is no builtin %s", name);
    return false;
  }
  register_lookaside(builtin, lookaside);
  return true;
}

bool init_lookasides() {
  if (!table().empty()) return true;
  return init_object_lookasides() && init_execution_lookasides() && init_generator_lookasides() &&
         init_iteration_lookasides() && init_steps();
}

bool has_lookaside(PyObject* callee) { return table().count(callee_key(callee)) != 0; }

int call_lookaside(Frame& frame, Val callee, const Args& args, Val* result) {
  const auto found = table().find(callee_key(callee.o));
  if (found == table().end()) return 0;
  result->p = nullptr;
  Looked looked;
  PyObject* self = PyCFunction_Check(callee.o) ? PyCFunction_GET_SELF(callee.o) : nullptr;
  if (self && !PyModule_Check(self)) {
    const Py_ssize_t total = args.total();
    auto** objects = static_cast<PyObject**>(alloca(sizeof(PyObject*) * (total + 2))) + 1;
    objects[0] = self;
    if (total) std::memcpy(objects + 1, args.objects, sizeof(PyObject*) * total);
    looked = found->second(frame, callee, Args{objects, nullptr, args.count + 1, args.names, true},
                           result);
  } else {
    looked = found->second(frame, callee, args, result);
  }
  if (looked == Looked::kDone) frame.context->counters.lookasides++;
  return static_cast<int>(looked);
}

}  // namespace fulmen::interp
