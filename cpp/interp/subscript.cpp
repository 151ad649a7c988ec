// Subscripts and len().
#include <string_view>

#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

bool note_absent(Frame& frame, Val container, Val key) {
  return !frame.hooks || frame.hooks->absent(frame, Read::kItem, container, key.o);
}

// A dictionary that finds its entries as `dict` does, and whose class may define __missing__.
bool looks_up_as_dict(Frame& frame, PyObject* container, PyTypeObject* type) {
  if (!PyDict_Check(container) || PyDict_CheckExact(container)) return false;
  static PyObject* const own = type_lookup(frame, &PyDict_Type, names::__getitem__);
  return type_lookup(frame, type, names::__getitem__) == own;
}

// defaultdict.__missing__: what it makes is a write like any other.
bool is_default_dict(PyObject* missing) {
  return missing && Py_IS_TYPE(missing, &PyMethodDescr_Type) &&
         std::string_view(PyDescr_TYPE(missing)->tp_name) == "collections.defaultdict";
}

bool make_default(Frame& frame, Val container, Val key, Val* result) {
  static PyObject* const name = PyUnicode_InternFromString("default_factory");
  Val factory;
  if (lookup_attr(frame, container, name, &factory) <= 0) return false;
  const py::Ref keep = py::Ref::steal(factory.o);
  if (factory.o == Py_None) {
    PyErr_SetObject(PyExc_KeyError, key.o);
    return false;
  }
  if (!call_with(frame, factory, {}, result)) return false;
  if (set_item(frame, container, key, *result)) return true;
  Py_CLEAR(result->o);
  return false;
}

}  // namespace

bool get_item(Frame& frame, Val container, Val key, Val* result) {
  if (frame.hooks && PyDict_Check(container.o)) key.o = frame.hooks->key_of(key.o);
  PyTypeObject* type = Py_TYPE(container.o);
  if (looks_up_as_dict(frame, container.o, type)) {
    PyObject* missing = type_lookup(frame, type, names::__missing__);
    const bool by_default = is_default_dict(missing);
    if (by_default || (missing && PyFunction_Check(missing))) {
      PyObject* value = PyDict_GetItemWithError(container.o, key.o);
      if (value) {
        *result = {Py_NewRef(value), nullptr};
        return !frame.hooks || frame.hooks->read(frame, Read::kItem, container, key.o, result);
      }
      if (PyErr_Occurred() || !note_absent(frame, container, key)) return false;
      if (by_default) return make_default(frame, container, key, result);
      return call_special(frame, container, names::__missing__, {key}, result) > 0;
    }
  } else if (is_heap_type(type) && type->tp_as_mapping &&
             type->tp_as_mapping->mp_subscript == python_slots.mapping.mp_subscript) {
    const int has = call_special(frame, container, names::__getitem__, {key}, result);
    if (has) return has > 0;
  } else if (PyType_Check(container.o) &&
             !(type->tp_as_mapping && type->tp_as_mapping->mp_subscript) &&
             container.o != reinterpret_cast<PyObject*>(&PyType_Type)) {
    Val method;
    const int has = lookup_attr(frame, container, names::__class_getitem__, &method);
    if (has < 0) return false;
    if (has > 0) {
      const bool ok = method.o != Py_None && call_with(frame, method, {key}, result);
      const bool none = method.o == Py_None;
      Py_DECREF(method.o);
      if (!none) return ok;
    }
  }
  *result = {PyObject_GetItem(container.o, key.o), nullptr};
  if (!result->o) {
    if (frame.hooks && PyErr_ExceptionMatches(PyExc_LookupError)) {
      PyObject* error = py::fetch_exception();
      if (note_absent(frame, container, key)) {
        py::restore_exception(error);
      } else {
        Py_XDECREF(error);
      }
    }
    return false;
  }
  if (frame.hooks && !frame.hooks->read(frame, Read::kItem, container, key.o, result)) {
    Py_CLEAR(result->o);
    return false;
  }
  return true;
}

bool set_item(Frame& frame, Val container, Val key, Val value) {
  if (frame.hooks && PyDict_Check(container.o)) key.o = frame.hooks->key_of(key.o);
  PyTypeObject* type = Py_TYPE(container.o);
  if (is_heap_type(type) && type->tp_as_mapping &&
      type->tp_as_mapping->mp_ass_subscript == python_slots.mapping.mp_ass_subscript) {
    Val none;
    const int has = value.o
                        ? call_special(frame, container, names::__setitem__, {key, value}, &none)
                        : call_special(frame, container, names::__delitem__, {key}, &none);
    if (has > 0) Py_DECREF(none.o);
    if (has) return has > 0;
  }
  if (frame.hooks && !frame.hooks->write(frame, Write::kItem, container, key.o, value))
    return false;
  if (!value.o) return PyObject_DelItem(container.o, key.o) == 0;
  return PyObject_SetItem(container.o, key.o, value.o) == 0;
}

bool length(Frame& frame, Val container, Val* result) {
  PyTypeObject* type = Py_TYPE(container.o);
  if (frame.hooks && !frame.hooks->sized(frame, container)) return false;
  const bool by_python =
      is_heap_type(type) &&
      ((type->tp_as_sequence &&
        type->tp_as_sequence->sq_length == python_slots.sequence.sq_length) ||
       (type->tp_as_mapping && type->tp_as_mapping->mp_length == python_slots.mapping.mp_length));
  if (by_python) {
    Val given;
    const int has = call_special(frame, container, names::__len__, {}, &given);
    if (has < 0) return false;
    if (has > 0) {
      py::Ref keep = py::Ref::steal(given.o);
      py::Ref index = py::Ref::steal(PyNumber_Index(given.o));
      if (!index) return false;
      if (_PyLong_Sign(index.get()) < 0) {
        PyErr_SetString(PyExc_ValueError, "__len__() should return >= 0");
        return false;
      }
      const Py_ssize_t n = PyNumber_AsSsize_t(index.get(), PyExc_OverflowError);
      if (n == -1 && PyErr_Occurred()) return false;
      *result = {PyLong_FromSsize_t(n), nullptr};
      return result->o != nullptr;
    }
  }
  const Py_ssize_t n = PyObject_Size(container.o);
  if (n < 0) return false;
  *result = {PyLong_FromSsize_t(n), nullptr};
  return result->o != nullptr;
}

}  // namespace fulmen::interp
