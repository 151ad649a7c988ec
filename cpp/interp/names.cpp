// Names: globals, class bodies, cells.
#include "py/names.h"

#include "interp/protocol.h"

namespace fulmen::interp {

namespace names = py::names;

void raise_undefined_name(PyObject* name) {
  PyErr_Format(PyExc_NameError, "name '%.200S' is not defined", name);
#if FULMEN_PY_312_UP
  PyObject* error = PyErr_GetRaisedException();
#else
  PyObject *type, *error, *traceback;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
#endif
  // The suggestion in a traceback ("did you mean") reads the name from there.
  if (error && Py_TYPE(error) == reinterpret_cast<PyTypeObject*>(PyExc_NameError)) {
    auto* fields = reinterpret_cast<PyNameErrorObject*>(error);
    if (!fields->name) fields->name = Py_NewRef(name);
  }
#if FULMEN_PY_312_UP
  PyErr_SetRaisedException(error);
#else
  PyErr_Restore(type, error, traceback);
#endif
}

void raise_unbound_local(Frame& frame, int local) {
  PyErr_Format(PyExc_UnboundLocalError,
               "cannot access local variable '%.200S' where it is not associated with a value",
               PyTuple_GET_ITEM(frame.code_object()->co_localsplusnames, local));
}

void raise_unbound_cell(Frame& frame, int cell) {
  PyCodeObject* code = frame.code_object();
  if (cell < code->co_nlocalsplus - code->co_nfreevars) return raise_unbound_local(frame, cell);
  PyErr_Format(PyExc_NameError,
               "cannot access free variable '%.200S' where it is not associated with a value in "
               "enclosing scope",
               PyTuple_GET_ITEM(code->co_localsplusnames, cell));
}

namespace {

// 1, 0 (absent, nothing set), -1. New reference.
int find(PyObject* mapping, PyObject* name, PyObject** value) {
  if (PyDict_CheckExact(mapping)) {
    *value = Py_XNewRef(PyDict_GetItemWithError(mapping, name));
    if (*value) return 1;
    return PyErr_Occurred() ? -1 : 0;
  }
  *value = PyObject_GetItem(mapping, name);
  if (*value) return 1;
  if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
  PyErr_Clear();
  return 0;
}

bool note(Frame& frame, Read kind, Val from, PyObject* name, Val* result) {
  if (!frame.hooks || frame.hooks->read(frame, kind, from, name, result)) return true;
  Py_CLEAR(result->o);
  return false;
}

int find_in_mapping(Frame& frame, PyObject* mapping, PyObject* name, Val* result) {
  result->p = nullptr;
  if (PyDict_CheckExact(mapping)) return find(mapping, name, &result->o);
  // The namespace of a class may be anything, by __prepare__.
  if (get_item(frame, {mapping, nullptr}, {name, nullptr}, result)) return 1;
  if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
  PyErr_Clear();
  return 0;
}

}  // namespace

namespace {

// An instance's dictionary whose values lie in the instance changes without a new version.
bool has_versions(PyObject* dict) {
  return PyDict_CheckExact(dict) && !reinterpret_cast<PyDictObject*>(dict)->ma_values;
}

}  // namespace

bool load_global(Frame& frame, PyObject* name, GlobalCache* cache, Val* result) {
  PyObject* globals = frame.globals();
  result->p = nullptr;
  int has = find(globals, name, &result->o);
  if (cache && has >= 0) {
    PyObject* builtins = frame.builtins();
    PyObject* value = result->o;
    if (!value && PyDict_CheckExact(builtins)) value = PyDict_GetItemWithError(builtins, name);
    if (!value && PyErr_Occurred()) return false;
    cache->value = nullptr;
    if (value && has_versions(globals) && has_versions(builtins)) {
      *cache = {dict_version(globals), dict_version(builtins), value};
    }
  }
  if (has > 0) return note(frame, Read::kGlobal, {globals, nullptr}, name, result);
  if (has < 0) return false;
  if (frame.hooks && !frame.hooks->absent(frame, Read::kGlobal, {globals, nullptr}, name)) {
    return false;
  }
  PyObject* builtins = frame.builtins();
  has = find(builtins, name, &result->o);
  if (has > 0) return note(frame, Read::kBuiltin, {builtins, nullptr}, name, result);
  if (has == 0 &&
      (!frame.hooks || frame.hooks->absent(frame, Read::kGlobal, {builtins, nullptr}, name))) {
    raise_undefined_name(name);
  }
  return false;
}

bool load_from_dict_or_globals(Frame& frame, PyObject* mapping, PyObject* name, Val* result) {
  const int has = find_in_mapping(frame, mapping, name, result);
  if (has > 0) return note(frame, Read::kName, {mapping, nullptr}, name, result);
  return has == 0 && load_global(frame, name, nullptr, result);
}

bool load_name(Frame& frame, PyObject* name, Val* result) {
  PyObject* locals = frame.native->locals;
  if (!locals) {
    PyErr_Format(PyExc_SystemError, "no locals when loading %R", name);
    return false;
  }
  return load_from_dict_or_globals(frame, locals, name, result);
}

bool store_name(Frame& frame, PyObject* name, Val value) {
  PyObject* locals = frame.native->locals;
  if (!locals) {
    PyErr_Format(PyExc_SystemError,
                 value.o ? "no locals found when storing %R" : "no locals when deleting %R", name);
    return false;
  }
  if (PyDict_CheckExact(locals)) {
    if (frame.hooks && !frame.hooks->write(frame, Write::kName, {locals, nullptr}, name, value)) {
      return false;
    }
    if (value.o) return PyDict_SetItem(locals, name, value.o) == 0;
    if (PyDict_DelItem(locals, name) == 0) return true;
  } else if (set_item(frame, {locals, nullptr}, {name, nullptr}, value)) {
    return true;
  } else if (value.o) {
    return false;
  }
#if FULMEN_PY_311
  raise_undefined_name(name);  // whatever the mapping raised
#else
  if (PyErr_ExceptionMatches(PyExc_KeyError)) raise_undefined_name(name);
#endif
  return false;
}

bool load_from_dict_or_cell(Frame& frame, PyObject* mapping, int cell, Val* result) {
  PyObject* name = PyTuple_GET_ITEM(frame.code_object()->co_localsplusnames, cell);
  const int has = find_in_mapping(frame, mapping, name, result);
  if (has > 0) return note(frame, Read::kName, {mapping, nullptr}, name, result);
  if (has < 0) return false;
  PyObject* held = PyCell_GET(frame.locals[cell]);
  if (!held) {
    raise_unbound_cell(frame, cell);
    return false;
  }
  *result = {Py_NewRef(held), nullptr};
  return note(frame, Read::kCell, frame.local(cell), nullptr, result);
}

bool setup_annotations(Frame& frame) {
  PyObject* locals = frame.native->locals;
  if (!locals) {
    PyErr_SetString(PyExc_SystemError, "no locals found when setting up annotations");
    return false;
  }
  Val present;
  const int has = find_in_mapping(frame, locals, names::__annotations__, &present);
  if (has < 0) return false;
  if (has > 0) {
    Py_DECREF(present.o);
    return true;
  }
  PyObject* made = PyDict_New();
  if (!made) return false;
  const bool ok = store_name(frame, names::__annotations__, {made, nullptr});
  Py_DECREF(made);
  return ok;
}

}  // namespace fulmen::interp
