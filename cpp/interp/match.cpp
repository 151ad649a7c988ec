// Structural pattern matching.
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// 1: *value is the attribute. 0: no match. -1.
int match_attr(Frame& frame, Val subject, PyObject* type, PyObject* name, PyObject* seen,
               PyObject** value) {
  if (PySet_Contains(seen, name) || PySet_Add(seen, name) < 0) {
    if (!PyErr_Occurred()) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple sub-patterns for attribute %R",
                   reinterpret_cast<PyTypeObject*>(type)->tp_name, name);
    }
    return -1;
  }
  Val found;
  const int has = lookup_attr(frame, subject, name, &found);
  *value = has > 0 ? found.o : nullptr;
  return has;
}

// Positional sub-patterns: 1, 0, -1; appends to `out`.
int match_positional(Frame& frame, Val subject, Val type, Py_ssize_t count, PyObject* seen,
                     PyObject* out) {
  const char* name = reinterpret_cast<PyTypeObject*>(type.o)->tp_name;
  Val found;
  const int has = lookup_attr(frame, type, names::__match_args__, &found);
  if (has < 0) return -1;
  py::Ref match_args;
  bool match_self = false;
  if (has > 0) {
    match_args = py::Ref::steal(found.o);
    if (!PyTuple_CheckExact(found.o)) {
      PyErr_Format(PyExc_TypeError, "%s.__match_args__ must be a tuple (got %s)", name,
                   Py_TYPE(found.o)->tp_name);
      return -1;
    }
  } else {
    match_args = py::Ref::steal(PyTuple_New(0));
    if (!match_args) return -1;
    match_self = PyType_HasFeature(reinterpret_cast<PyTypeObject*>(type.o), _Py_TPFLAGS_MATCH_SELF);
  }
  const Py_ssize_t allowed = match_self ? 1 : PyTuple_GET_SIZE(match_args.get());
  if (allowed < count) {
    PyErr_Format(PyExc_TypeError, "%s() accepts %d positional sub-pattern%s (%d given)", name,
                 static_cast<int>(allowed), allowed == 1 ? "" : "s", static_cast<int>(count));
    return -1;
  }
  if (match_self) {
    return PyList_Append(out, subject.o) < 0 ? -1 : 1;
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject* attribute = PyTuple_GET_ITEM(match_args.get(), i);
    if (!PyUnicode_CheckExact(attribute)) {
      PyErr_Format(PyExc_TypeError, "__match_args__ elements must be strings (got %s)",
                   Py_TYPE(attribute)->tp_name);
      return -1;
    }
    PyObject* value;
    const int matched = match_attr(frame, subject, type.o, attribute, seen, &value);
    if (matched <= 0) return matched;
    const int failed = PyList_Append(out, value);
    Py_DECREF(value);
    if (failed) return -1;
  }
  return 1;
}

}  // namespace

bool match_class(Frame& frame, Val subject, Val type, Py_ssize_t positional, PyObject* keywords,
                 PyObject** attributes) {
  *attributes = nullptr;
  if (!PyType_Check(type.o)) {
    PyErr_SetString(PyExc_TypeError, "called match pattern must be a class");
    return false;
  }
  const int is = is_instance(frame, subject, type);
  if (is <= 0) return is == 0;
  py::Ref seen = py::Ref::steal(PySet_New(nullptr));
  py::Ref found = py::Ref::steal(PyList_New(0));
  if (!seen || !found) return false;
  if (positional) {
    const int matched = match_positional(frame, subject, type, positional, seen.get(), found.get());
    if (matched <= 0) return matched == 0;
  }
  for (Py_ssize_t i = 0, n = PyTuple_GET_SIZE(keywords); i < n; i++) {
    PyObject* value;
    const int matched =
        match_attr(frame, subject, type.o, PyTuple_GET_ITEM(keywords, i), seen.get(), &value);
    if (matched <= 0) return matched == 0;
    const int failed = PyList_Append(found.get(), value);
    Py_DECREF(value);
    if (failed) return false;
  }
  *attributes = PyList_AsTuple(found.get());
  return *attributes != nullptr;
}

bool match_keys(Frame& frame, Val subject, Val keys, PyObject** values) {
  const Py_ssize_t count = PyTuple_GET_SIZE(keys.o);
  *values = nullptr;
  if (count == 0) {
    *values = PyTuple_New(0);
    return *values != nullptr;
  }
  Val get;
  py::Ref seen = py::Ref::steal(PySet_New(nullptr));
  py::Ref absent =
      py::Ref::steal(PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type)));
  if (!seen || !absent || !load_attr(frame, subject, names::get, &get)) return false;
  py::Ref keep = py::Ref::steal(get.o);
  py::Ref found = py::Ref::steal(PyTuple_New(count));
  if (!found) return false;
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject* key = PyTuple_GET_ITEM(keys.o, i);
    if (PySet_Contains(seen.get(), key) || PySet_Add(seen.get(), key) < 0) {
      if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "mapping pattern checks duplicate key (%R)", key);
      }
      return false;
    }
    Val value;
    if (!call_with(frame, get, {{key, nullptr}, {absent.get(), nullptr}}, &value)) return false;
    if (value.o == absent.get()) {
      Py_DECREF(value.o);
      *values = Py_NewRef(Py_None);
      return true;
    }
    PyTuple_SET_ITEM(found.get(), i, value.o);
  }
  *values = found.release();
  return true;
}

}  // namespace fulmen::interp
