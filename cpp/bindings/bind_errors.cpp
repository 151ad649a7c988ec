#include "bindings/bind.h"
#include "support/error.h"

namespace fulmen::bindings {
namespace {

// fulmen.errors defines the exception classes in Python; this raises them from C++.
PyObject* error_class(const char* name) {
  PyObject* module = PyImport_ImportModule("fulmen.errors");
  if (!module) return nullptr;
  PyObject* cls = PyObject_GetAttrString(module, name);
  Py_DECREF(module);
  return cls;
}

void raise(const char* cls_name, const std::string& message, const std::string& id) {
  PyObject* cls = error_class(cls_name);
  if (!cls) return;
  if (PyObject* e = PyObject_CallFunction(cls, "ss", message.c_str(), id.c_str())) {
    PyErr_SetObject(cls, e);
    Py_DECREF(e);
  }
  Py_DECREF(cls);
}

const char* class_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kRuntime: return "UserRuntimeError";
    case ErrorKind::kType: return "UserTypeError";
    case ErrorKind::kValue: return "UserValueError";
    case ErrorKind::kIndex: return "UserIndexError";
    case ErrorKind::kNotImplemented: return "UserNotImplementedError";
  }
  return "UserRuntimeError";
}

}  // namespace

void set_python_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const UserError& e) {
    raise(class_of(e.kind()), e.what(), e.id());
  } catch (const InternalError& e) {
    raise("InternalError", e.what(), "internal");
  } catch (const Unsupported& e) {
    raise("Unsupported", e.what(), "unsupported");
  }
}

void set_python_error_of_any(const std::exception_ptr& error) {
  try {
    set_python_error(error);
  } catch (const std::exception& e) {
    raise("InternalError", e.what(), "internal");
  }
}

void bind_errors(nanobind::module_&) {
  nanobind::register_exception_translator(
      [](const std::exception_ptr& p, void*) { set_python_error(p); });
}

}  // namespace fulmen::bindings
