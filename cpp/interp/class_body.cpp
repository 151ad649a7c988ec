// Class statements: what __build_class__ does.
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// The bases with __mro_entries__ applied; the same object if none has any.
PyObject* update_bases(Frame& frame, PyObject* bases) {
  py::Ref updated;
  for (Py_ssize_t i = 0, n = PyTuple_GET_SIZE(bases); i < n; i++) {
    PyObject* base = PyTuple_GET_ITEM(bases, i);
    Val method, entries;
    int has = 0;
    if (!PyType_Check(base))
      has = lookup_attr(frame, {base, nullptr}, names::__mro_entries__, &method);
    if (has < 0) return nullptr;
    if (has == 0) {
      if (updated && PyList_Append(updated.get(), base) < 0) return nullptr;
      continue;
    }
    const bool ok = call_with(frame, method, {{bases, nullptr}}, &entries);
    Py_DECREF(method.o);
    if (!ok) return nullptr;
    py::Ref keep = py::Ref::steal(entries.o);
    if (!PyTuple_Check(entries.o)) {
      PyErr_SetString(PyExc_TypeError, "__mro_entries__ must return a tuple");
      return nullptr;
    }
    if (!updated) {
      updated = py::Ref::steal(PyList_New(0));
      if (!updated) return nullptr;
      for (Py_ssize_t j = 0; j < i; j++) {
        if (PyList_Append(updated.get(), PyTuple_GET_ITEM(bases, j)) < 0) return nullptr;
      }
    }
    const Py_ssize_t end = PyList_GET_SIZE(updated.get());
    if (PyList_SetSlice(updated.get(), end, end, entries.o) < 0) return nullptr;
  }
  return updated ? PyList_AsTuple(updated.get()) : Py_NewRef(bases);
}

// The most derived metaclass of `meta` and the bases'; borrowed.
PyObject* most_derived(PyObject* meta, PyObject* bases) {
  auto* winner = reinterpret_cast<PyTypeObject*>(meta);
  for (Py_ssize_t i = 0, n = PyTuple_GET_SIZE(bases); i < n; i++) {
    PyTypeObject* type = Py_TYPE(PyTuple_GET_ITEM(bases, i));
    if (PyType_IsSubtype(winner, type)) continue;
    if (!PyType_IsSubtype(type, winner)) {
      PyErr_SetString(PyExc_TypeError,
                      "metaclass conflict: the metaclass of a derived class must be a (non-strict) "
                      "subclass of the metaclasses of all its bases");
      return nullptr;
    }
    winner = type;
  }
  return reinterpret_cast<PyObject*>(winner);
}

bool prepare(Frame& frame, Val meta, bool meta_is_class, Val name, Val bases, Val keywords,
             py::Ref* space) {
  Val method;
  const int has = lookup_attr(frame, meta, names::__prepare__, &method);
  if (has < 0) return false;
  if (has == 0) {
    *space = py::Ref::steal(PyDict_New());
    return static_cast<bool>(*space);
  }
  Val made;
  py::Ref pair = py::Ref::steal(PyTuple_Pack(2, name.o, bases.o));
  const bool ok = pair && call_unpacked(frame, method, {pair.get(), nullptr}, keywords, &made);
  Py_DECREF(method.o);
  if (!ok) return false;
  *space = py::Ref::steal(made.o);
  if (!PyMapping_Check(made.o)) {
    PyErr_Format(PyExc_TypeError, "%.200s.__prepare__() must return a mapping, not %.200s",
                 meta_is_class ? reinterpret_cast<PyTypeObject*>(meta.o)->tp_name : "<metaclass>",
                 Py_TYPE(made.o)->tp_name);
    return false;
  }
  return true;
}

bool check_class_cell(PyObject* cell, PyObject* made, PyObject* name) {
  if (!cell || !PyType_Check(made) || !PyCell_Check(cell)) return true;
  PyObject* held = PyCell_GET(cell);
  if (held == made) return true;
  if (!held) {
    PyErr_Format(PyExc_RuntimeError,
                 "__class__ not set defining %.200R as %.200R. Was __classcell__ propagated to "
                 "type.__new__?",
                 name, made);
  } else {
    PyErr_Format(PyExc_TypeError, "__class__ set to %.200R defining %.200R as %.200R", held, name,
                 made);
  }
  return false;
}

}  // namespace

bool build_class(Frame& frame, const Args& args, Val* result) {
  PyObject* function = args.objects[0];
  const Val name = args.at(1);
  py::Ref given = py::Ref::steal(PyTuple_New(args.count - 2));
  if (!given) return false;
  for (Py_ssize_t i = 2; i < args.count; i++) {
    PyTuple_SET_ITEM(given.get(), i - 2, Py_NewRef(args.objects[i]));
  }
  py::Ref bases = py::Ref::steal(update_bases(frame, given.get()));
  if (!bases) return false;
  py::Ref keywords, meta;
  if (args.named()) {
    keywords = py::Ref::steal(PyDict_New());
    if (!keywords) return false;
    for (Py_ssize_t i = 0, n = args.named(); i < n; i++) {
      PyObject* key = PyTuple_GET_ITEM(args.names, i);
      PyObject* value = args.objects[args.count + i];
      if (PyUnicode_Compare(key, names::metaclass) == 0) {
        meta = py::Ref::borrow(value);
      } else if (PyDict_SetItem(keywords.get(), key, value) < 0) {
        return false;
      }
    }
  }
  if (!meta) {
    PyTypeObject* type =
        PyTuple_GET_SIZE(bases.get()) ? Py_TYPE(PyTuple_GET_ITEM(bases.get(), 0)) : &PyType_Type;
    meta = py::Ref::borrow(reinterpret_cast<PyObject*>(type));
  }
  const bool meta_is_class = PyType_Check(meta.get());
  if (meta_is_class) {
    PyObject* winner = most_derived(meta.get(), bases.get());
    if (!winner) return false;
    meta = py::Ref::borrow(winner);
  }
  py::Ref space;
  const Val meta_value{meta.get(), nullptr}, keyword_value{keywords.get(), nullptr};
  if (!prepare(frame, meta_value, meta_is_class, name, {bases.get(), nullptr}, keyword_value,
               &space)) {
    return false;
  }
  Val cell;
  if (!run_code(frame, reinterpret_cast<PyFunctionObject*>(function), space.get(), &cell)) {
    return false;
  }
  py::Ref keep_cell = py::Ref::steal(cell.o);
  if (bases.get() != given.get() &&
      !set_item(frame, {space.get(), nullptr}, {names::__orig_bases__, nullptr},
                {given.get(), nullptr})) {
    return false;
  }
  py::Ref triple = py::Ref::steal(PyTuple_Pack(3, name.o, bases.get(), space.get()));
  if (!triple ||
      !call_unpacked(frame, meta_value, {triple.get(), nullptr}, keyword_value, result)) {
    return false;
  }
  if (check_class_cell(cell.o, result->o, name.o)) return true;
  Py_CLEAR(result->o);
  return false;
}

}  // namespace fulmen::interp
