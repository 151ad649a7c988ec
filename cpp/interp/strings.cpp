// Formatted strings.
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"

namespace fulmen::interp {

namespace names = py::names;

PyObject* join_strings(PyObject** parts, int count) {
  PyObject* empty = PyUnicode_New(0, 0);
  if (!empty) return nullptr;
  PyObject* joined = _PyUnicode_JoinArray(empty, parts, count);
  Py_DECREF(empty);
  return joined;
}

bool convert_value(Frame& frame, int conversion, Val value, Val* result) {
  PyTypeObject* type = Py_TYPE(value.o);
  const bool str = conversion == 1;
  const reprfunc slot = str ? type->tp_str : type->tp_repr;
  const reprfunc python = str ? python_slots.all.tp_str : python_slots.all.tp_repr;
  if (conversion != 3 && is_heap_type(type) && slot == python) {
    const int has = call_special(frame, value, str ? names::__str__ : names::__repr__, {}, result);
    if (has < 0) return false;
    if (has > 0) {
      if (PyUnicode_Check(result->o)) return true;
      PyErr_Format(PyExc_TypeError, "%s returned non-string (type %.200s)",
                   str ? "__str__" : "__repr__", Py_TYPE(result->o)->tp_name);
      Py_CLEAR(result->o);
      return false;
    }
  }
  if (frame.hooks) frame.hooks->all_contents(frame, value);
  PyObject* made = str               ? PyObject_Str(value.o)
                   : conversion == 2 ? PyObject_Repr(value.o)
                                     : PyObject_ASCII(value.o);
  *result = {made, nullptr};
  return made != nullptr;
}

bool format_value(Frame& frame, Val value, Val spec, Val* result) {
  PyTypeObject* type = Py_TYPE(value.o);
  if (!spec.o && PyUnicode_CheckExact(value.o)) {
    *result = {Py_NewRef(value.o), nullptr};
    return true;
  }
  if (is_heap_type(type)) {
    PyObject* method = type_lookup(frame, type, names::__format__);
    if (method && PyFunction_Check(method)) {
      PyObject* empty = spec.o ? Py_NewRef(spec.o) : PyUnicode_New(0, 0);
      const int has = call_special(frame, value, names::__format__, {{empty, spec.p}}, result);
      Py_DECREF(empty);
      if (has < 0) return false;
      if (PyUnicode_Check(result->o)) return true;
      PyErr_Format(PyExc_TypeError, "__format__ must return a str, not %.200s",
                   Py_TYPE(result->o)->tp_name);
      Py_CLEAR(result->o);
      return false;
    }
    if (!spec.o && type->tp_str == python_slots.all.tp_str &&
        method == _PyType_Lookup(&PyBaseObject_Type, names::__format__)) {
      return convert_value(frame, 1, value, result);
    }
  }
  if (frame.hooks) frame.hooks->all_contents(frame, value);
  *result = {PyObject_Format(value.o, spec.o), nullptr};
  return result->o != nullptr;
}

}  // namespace fulmen::interp
