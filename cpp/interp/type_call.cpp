// Making instances: type.__call__.
#include <alloca.h>

#include <cstring>

#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// The arguments as tuple and dictionary; false on failure. No named ones: `kwargs` is null.
bool pack(const Args& args, py::Ref* positional, py::Ref* kwargs) {
  *positional = py::Ref::steal(PyTuple_New(args.count));
  if (!*positional) return false;
  for (Py_ssize_t i = 0; i < args.count; i++) {
    PyTuple_SET_ITEM(positional->get(), i, Py_NewRef(args.objects[i]));
  }
  if (!args.named()) return true;
  *kwargs = py::Ref::steal(PyDict_New());
  if (!*kwargs) return false;
  for (Py_ssize_t i = 0, n = args.named(); i < n; i++) {
    if (PyDict_SetItem(kwargs->get(), PyTuple_GET_ITEM(args.names, i),
                       args.objects[args.count + i]) < 0) {
      return false;
    }
  }
  return true;
}

// Calls `callee(first, *args)`.
bool call_first(Frame& frame, Val callee, Val first, const Args& args, Val* result) {
  const Py_ssize_t total = args.total();
  auto** objects = static_cast<PyObject**>(alloca(sizeof(PyObject*) * (total + 2)));
  objects[0] = nullptr;
  objects[1] = first.o;
  if (total) std::memcpy(objects + 2, args.objects, sizeof(PyObject*) * total);
  Prov** provs = nullptr;
  if (frame.hooks) {
    provs = static_cast<Prov**>(alloca(sizeof(Prov*) * (total + 2)));
    provs[0] = nullptr;
    provs[1] = first.p;
    for (Py_ssize_t i = 0; i < total; i++) provs[i + 2] = args.at(i).p;
  }
  return call(frame, callee,
              Args{objects + 1, provs ? provs + 1 : nullptr, args.count + 1, args.names, true},
              result);
}

bool make_instance(Frame& frame, Val type_value, const Args& args, Val* result) {
  auto* type = reinterpret_cast<PyTypeObject*>(type_value.o);
  result->p = nullptr;
  if (type->tp_new == python_slots.all.tp_new) {
    Val function;
    if (!load_attr(frame, type_value, names::__new__, &function)) return false;
    const bool ok = call_first(frame, function, type_value, args, result);
    Py_DECREF(function.o);
    return ok;
  }
  py::Ref positional, kwargs;
  if (type->tp_new == PyBaseObject_Type.tp_new &&
      type->tp_init == python_slots.all.tp_init) {  // object.__new__ ignores the arguments then
    positional = py::Ref::steal(PyTuple_New(0));
  } else if (!pack(args, &positional, &kwargs)) {
    return false;
  }
  result->o = type->tp_new(type, positional.get(), kwargs.get());
  return result->o != nullptr;
}

bool initialize(Frame& frame, Val object, const Args& args) {
  PyTypeObject* type = Py_TYPE(object.o);
  if (type->tp_init == python_slots.all.tp_init) {
    PyObject* method = type_lookup(frame, type, names::__init__);
    Val none;
    bool ok;
    if (method && PyType_HasFeature(Py_TYPE(method), Py_TPFLAGS_METHOD_DESCRIPTOR)) {
      py::Ref keep = py::Ref::borrow(method);
      ok = call_first(frame, {method, nullptr}, object, args, &none);
    } else {
      Val bound;
      const int has = lookup_special(frame, object, names::__init__, &bound);
      if (has == 0) PyErr_SetObject(PyExc_AttributeError, names::__init__);
      if (has <= 0) return false;
      ok = call(frame, bound, args, &none);
      Py_DECREF(bound.o);
    }
    if (!ok) return false;
    if (none.o != Py_None) {
      PyErr_Format(PyExc_TypeError, "__init__() should return None, not '%.200s'",
                   Py_TYPE(none.o)->tp_name);
      ok = false;
    }
    Py_DECREF(none.o);
    return ok;
  }
  if (!type->tp_init) return true;
  py::Ref positional, kwargs;
  return pack(args, &positional, &kwargs) &&
         type->tp_init(object.o, positional.get(), kwargs.get()) == 0;
}

}  // namespace

bool call_type(Frame& frame, Val type_value, const Args& args, Val* result) {
  auto* type = reinterpret_cast<PyTypeObject*>(type_value.o);
  const bool python =
      type->tp_new == python_slots.all.tp_new || type->tp_init == python_slots.all.tp_init;
  if (!python || type == &PyType_Type) return call_opaque(frame, type_value, args, result);
  if (!make_instance(frame, type_value, args, result)) return false;
  if (!PyObject_TypeCheck(result->o, type)) return true;
  if (initialize(frame, *result, args)) return true;
  Py_CLEAR(result->o);
  return false;
}

}  // namespace fulmen::interp
