// import statements.
#include "interp/protocol.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// Null, perhaps without an exception. __builtins__ may be any mapping.
py::Ref find_importer(PyObject* builtins) {
  if (PyDict_CheckExact(builtins)) {
    PyObject* importer = PyDict_GetItemWithError(builtins, names::__import__);
    return importer ? py::Ref::borrow(importer) : py::Ref();
  }
  py::Ref importer = py::Ref::steal(PyObject_GetItem(builtins, names::__import__));
  if (!importer && PyErr_ExceptionMatches(PyExc_KeyError)) PyErr_Clear();
  return importer;
}

}  // namespace

bool import_name(Frame& frame, PyObject* name, PyObject* from, PyObject* level, Val* result) {
  const py::Ref found = find_importer(frame.builtins());
  PyObject* importer = found.get();
  if (!importer) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ImportError, "__import__ not found");
    return false;
  }
  PyObject* locals = frame.native->locals ? frame.native->locals : Py_None;
  result->p = nullptr;
  if (PyCFunction_Check(importer)) {
    // The import system itself is left to CPython.
    const auto depth = static_cast<int>(PyLong_AsLong(level));
    if (depth == -1 && PyErr_Occurred()) return false;
    result->o = PyImport_ImportModuleLevelObject(name, frame.globals(), locals, from, depth);
    return result->o != nullptr;
  }
  return call_with(frame, {importer, nullptr},
                   {{name, nullptr},
                    {frame.globals(), nullptr},
                    {locals, nullptr},
                    {from, nullptr},
                    {level, nullptr}},
                   result);
}

bool import_from(Frame& frame, Val module, PyObject* name, Val* result) {
  const int has = lookup_attr(frame, module, name, result);
  if (has) return has > 0;
  // What CPython does about circular imports and the wording of the error is the same for every
  // module object, so that it may do it.
  return import_from_natively(frame, module, name, result);
}

bool import_star(Frame& frame, PyObject* module) {
  PyObject* locals = frame.native->locals ? frame.native->locals : frame.globals();
  Val found;
  int has = lookup_attr(frame, {module, nullptr}, names::__all__, &found);
  if (has < 0) return false;
  const bool all = has > 0;
  py::Ref list = py::Ref::steal(all ? found.o : nullptr);
  if (!all) {
    has = lookup_attr(frame, {module, nullptr}, names::__dict__, &found);
    if (has < 0) return false;
    if (has == 0) {
      PyErr_SetString(PyExc_ImportError, "from-import-* object has no __dict__ and no __all__");
      return false;
    }
    list = py::Ref::steal(PyMapping_Keys(found.o));
    Py_DECREF(found.o);
    if (!list) return false;
  }
  for (Py_ssize_t i = 0;; i++) {
    py::Ref name = py::Ref::steal(PySequence_GetItem(list.get(), i));
    if (!name) {
      if (!PyErr_ExceptionMatches(PyExc_IndexError)) return false;
      PyErr_Clear();
      return true;
    }
    if (!PyUnicode_Check(name.get())) {
      py::Ref module_name = py::Ref::steal(PyObject_GetAttr(module, names::__name__));
      if (!module_name) return false;
      if (!PyUnicode_Check(module_name.get())) {
        PyErr_Format(PyExc_TypeError, "module __name__ must be a string, not %.100s",
                     Py_TYPE(module_name.get())->tp_name);
      } else {
        PyErr_Format(PyExc_TypeError, "%s in %U.%s must be str, not %.100s", all ? "Item" : "Key",
                     module_name.get(), all ? "__all__" : "__dict__", Py_TYPE(name.get())->tp_name);
      }
      return false;
    }
    if (!all && PyUnicode_GET_LENGTH(name.get()) && PyUnicode_READ_CHAR(name.get(), 0) == '_') {
      continue;
    }
    Val value;
    if (!load_attr(frame, {module, nullptr}, name.get(), &value)) return false;
    const bool ok = set_item(frame, {locals, nullptr}, {name.get(), nullptr}, value);
    Py_DECREF(value.o);
    if (!ok) return false;
  }
}

}  // namespace fulmen::interp
