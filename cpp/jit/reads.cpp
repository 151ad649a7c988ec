// What the program reads: where it is found again at the next call, and what must hold there.
#include <Python.h>
#include <structmember.h>

#include <algorithm>

#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
#include "jit/kinds.h"
#include "py/private_api.h"
#include "support/cat.h"

namespace fulmen::jit {

using interp::Prov;
using interp::Read;
using interp::Val;

namespace {

bool is_thread_local(const PyTypeObject* type) {
  for (; type; type = type->tp_base) {
    if (std::string_view(type->tp_name) == "_thread._local") return true;
  }
  return false;
}

std::string name_of(PyObject* o) {
  PyObject* name = PyObject_GetAttrString(o, "__name__");
  const char* text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
  std::string label = text ? text : "?";
  Py_XDECREF(name);
  PyErr_Clear();
  return label;
}

}  // namespace

Prov* Acquisition::node(int slot, PyObject* value) {
  provs_.push_back({});
  Prov* p = &provs_.back();
  p->id = static_cast<uint32_t>(slot);
  p->value = value;
  return p;
}

Prov* Acquisition::known(PyObject* o) const {
  const auto it = known_.find(o);
  return it == known_.end() ? nullptr : it->second;
}

Prov* Acquisition::constant(PyObject* object, const std::string& label) {
  if (Prov* p = known(object)) return p;
  Prov* p = node(entry_->guards.constant(object, label), object);
  kept_.push_back(Py_NewRef(object));
  known_.emplace(object, p);
  if (PyFunction_Check(object)) entry_->guards.require_function(object);
  if (PyMethod_Check(object)) look_inside_parts(object, static_cast<int>(p->id));
  return p;
}

Prov* Acquisition::argument(PyObject** object, int64_t position, const char* name) {
  entry_->argument_names.resize(
      std::max(entry_->argument_names.size(), static_cast<size_t>(position) + 1));
  entry_->argument_names[static_cast<size_t>(position)] = name;
  const int slot = entry_->guards.argument(position);
  if (is_symbolic(*object)) {
    PyObject* number = number_in(slot, *object);
    if (!number) return nullptr;
    *object = Py_NewRef(number);
    return known(number);
  }
  Val v{Py_NewRef(*object), track(slot, *object)};
  if (!to_proxy(&v)) {
    Py_DECREF(v.o);
    return nullptr;
  }
  *object = v.o;
  return v.p;
}

void Acquisition::guard(int slot, PyObject* value) {
  GuardProgram& g = entry_->guards;
  if (is_singleton(value)) {
    g.require(slot, Check::kIdentity, value);
  } else if (is_plain_value(value)) {
    g.require(slot, Check::kValue, value);
  } else if (is_identity(value)) {
    g.require(slot, Check::kIdentity, value);
  } else if (is_derived_value(value)) {
    g.require(slot, Check::kType, reinterpret_cast<PyObject*>(Py_TYPE(value)));
    g.require(slot, Check::kValue, value);
  } else if (Arg ignored; bridge::torch_constant(value, &ignored)) {
    g.require(slot, Check::kValue, value);
  } else {
    g.require(slot, Check::kType, reinterpret_cast<PyObject*>(Py_TYPE(value)));
  }
}

Prov* Acquisition::track(int slot, PyObject* value) {
  const bool has_identity = !is_singleton(value) && !is_plain_value(value) &&
                            !(PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 0);
  if (has_identity) {
    if (Prov* p = known(value)) {
      // The same object by another way: it must be the same there too.
      if (static_cast<int>(p->id) != slot) {
        if (is_identity(value)) {
          guard(slot, value);
        } else {
          entry_->guards.require(slot, Check::kSame, nullptr, p->id);
        }
      }
      return p;
    }
  }
  if (PyFunction_Check(value) && !entry_->guards.is_dynamic(slot)) {
    entry_->guards.require(slot, Check::kIdentity, value);
    entry_->guards.require_function(value);
  } else {
    guard(slot, value);
    if (PyFunction_Check(value)) {
      // A function made anew for each call, of the same code.
      static PyObject* const names[] = {PyUnicode_InternFromString("__code__"),
                                        PyUnicode_InternFromString("__globals__")};
      for (PyObject* name : names) {
        PyObject* part = PyObject_GetAttr(value, name);
        entry_->guards.require(entry_->guards.fetch(Fetch::kAttr, slot, name), Check::kIdentity,
                               part);
        Py_XDECREF(part);
      }
    }
  }
  Prov* p = node(slot, value);
  if (has_identity) {
    kept_.push_back(Py_NewRef(value));
    known_.emplace(value, p);
  }
  if (PyMethod_Check(value)) look_inside_parts(value, slot);
  return p;
}

bool Acquisition::is_written(PyObject* target, PyObject* key) const {
  if (rewritten_.contains(target)) return true;
  const auto it = written_.find(target);
  if (it == written_.end()) return false;
  if (it->second.contains(key)) return true;
  // Tensors are keys by what they are; == would be an operation on them.
  if (!PyDict_Check(target) || bridge::is_tensor(key)) return false;
  return std::any_of(it->second.begin(), it->second.end(), [&](PyObject* known) {
    if (Py_TYPE(known) != Py_TYPE(key)) return false;
    if (PyUnicode_CheckExact(key) && PyUnicode_CHECK_INTERNED(key) &&
        PyUnicode_CHECK_INTERNED(known)) {
      return false;  // equal ones are the same
    }
    const int same = PyObject_RichCompareBool(known, key, Py_EQ);
    if (same < 0) PyErr_Clear();
    return same == 1;
  });
}

int Acquisition::dict_slot(PyObject* dict) {
  if (Prov* p = known(dict)) return static_cast<int>(p->id);
  PyObject* name = PyDict_GetItemString(dict, "__name__");
  const char* text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
  return static_cast<int>(constant(dict, cat(text ? text : "?", ".__dict__"))->id);
}

bool Acquisition::attribute_place(Prov* p, PyObject* object, PyObject* name, PyObject* value,
                                  int* slot) {
  GuardProgram& g = entry_->guards;
  const int from = static_cast<int>(p->id);
  if (PyType_Check(object)) {
    auto* type = reinterpret_cast<PyTypeObject*>(object);
    PyObject* found = _PyType_Lookup(type, name);
    g.require_lookup(type, name, found);
    if (found != value) return false;
    *slot = g.constant(value, cat(type->tp_name, ".", PyUnicode_AsUTF8(name)));
    return true;
  }
  if (Py_TYPE(object)->tp_flags & Py_TPFLAGS_HEAPTYPE) {
    static PyObject* const getattribute = PyUnicode_InternFromString("__getattribute__");
    g.require_lookup(Py_TYPE(object), getattribute, _PyType_Lookup(Py_TYPE(object), getattribute));
  }
  PyObject** place = _PyObject_GetDictPtr(object);
  if (place && *place) {
    if (*place == value) {  // the __dict__ itself
      *slot = g.fetch(Fetch::kInstanceDict, from, nullptr);
      return true;
    }
    if (PyDict_GetItemWithError(*place, name) == value) {
      *slot = g.fetch(Fetch::kDictItem, g.fetch(Fetch::kInstanceDict, from, nullptr), name);
      return true;
    }
  }
  if (is_thread_local(Py_TYPE(object))) {
    *slot = g.fetch(Fetch::kAttr, from, name);
    return true;
  }
  PyObject* found = _PyType_Lookup(Py_TYPE(object), name);
  if (!found) return false;
  g.require_lookup(Py_TYPE(object), name, found);
  if (Py_IS_TYPE(found, &PyMemberDescr_Type) || Py_IS_TYPE(found, &PyGetSetDescr_Type)) {
    *slot = g.fetch(Fetch::kAttr, from, name);
    return true;
  }
  if (place && !Py_TYPE(found)->tp_descr_set && !(*place && PyDict_GetItemWithError(*place, name)))
    g.require_absent(g.fetch(Fetch::kInstanceDict, from, nullptr), name);
  if (found != value) {  // what a descriptor computed
    guard_found(Py_TYPE(object), name, found);
    return false;
  }
  *slot = g.constant(value, cat(Py_TYPE(object)->tp_name, ".", PyUnicode_AsUTF8(name)));
  return true;
}

bool Acquisition::place(Read kind, Val from, PyObject* key, PyObject* value, int* slot) {
  GuardProgram& g = entry_->guards;
  switch (kind) {
    case Read::kGlobal:
    case Read::kBuiltin: *slot = g.fetch(Fetch::kDictItem, dict_slot(from.o), key); return true;
    case Read::kCell: {
      Prov* p = known(from.o);  // a cell that the call made has the provenance of what is in it
      if (!p) return false;
      *slot = g.fetch(Fetch::kCell, static_cast<int>(p->id), nullptr);
      return true;
    }
    case Read::kAttr: {
      Prov* p = source(from);
      // A class or a module that is reached without a source is the same at every call.
      if (!p && (PyType_Check(from.o) || PyModule_Check(from.o)))
        p = constant(from.o, name_of(from.o));
      return p && attribute_place(p, from.o, key, value, slot);
    }
    case Read::kItem: {
      Prov* p = source(from);
      if (!p) return false;
      const int container = static_cast<int>(p->id);
      if (PyDict_Check(from.o)) {
        if (PyDict_GetItemWithError(from.o, key) != value) {
          PyErr_Clear();
          return false;
        }
        *slot = g.fetch(Fetch::kDictItem, container, key);
        return true;
      }
      if ((PyList_Check(from.o) || PyTuple_Check(from.o)) && PyLong_Check(key)) {
        Py_ssize_t i = PyLong_AsSsize_t(key);
        if (i < 0) {
          i += Py_SIZE(from.o);
          g.require(container, Check::kLength, nullptr, Py_SIZE(from.o));
        }
        *slot = g.fetch(Fetch::kSequenceItem, container, nullptr, i);
        return true;
      }
      look_inside(from.o, p, 1);
      return false;
    }
    case Read::kDefault:
    case Read::kClosure: {
      Prov* p = source(from);
      if (!p || !PyFunction_Check(from.o)) return false;
      if (!g.is_dynamic(static_cast<int>(p->id))) {
        PyObject* named = reinterpret_cast<PyFunctionObject*>(from.o)->func_kwdefaults;
        if (kind == Read::kDefault && named && PyDict_GetItemWithError(named, key) == value) {
          const int at = g.constant(named, "(function).__kwdefaults__");
          *slot = g.fetch(Fetch::kDictItem, at, key);
          return true;
        }
        // require_function keeps code, defaults and closure what they are.
        *slot = g.constant(value, cat("(closure or default ", PyUnicode_AsUTF8(key), ")"));
        return true;
      }
      static PyObject* const closure = PyUnicode_InternFromString("__closure__");
      static PyObject* const defaults = PyUnicode_InternFromString("__defaults__");
      static PyObject* const kwdefaults = PyUnicode_InternFromString("__kwdefaults__");
      auto* f = reinterpret_cast<PyFunctionObject*>(from.o);
      const int base = static_cast<int>(p->id);
      PyObject* tuple = kind == Read::kClosure ? f->func_closure : f->func_defaults;
      for (Py_ssize_t i = 0; tuple && i < PyTuple_GET_SIZE(tuple); ++i) {
        if (PyTuple_GET_ITEM(tuple, i) != value) continue;
        const int at = g.fetch(Fetch::kAttr, base, kind == Read::kClosure ? closure : defaults);
        *slot = g.fetch(Fetch::kSequenceItem, at, nullptr, i);
        return true;
      }
      if (kind == Read::kDefault && f->func_kwdefaults) {
        *slot = g.fetch(Fetch::kDictItem, g.fetch(Fetch::kAttr, base, kwdefaults), key);
        return true;
      }
      return false;
    }
    case Read::kName:
    case Read::kNext:
    case Read::kType: return false;
  }
  return false;
}

bool Acquisition::read(interp::Frame&, Read kind, Val from, PyObject* key, Val* value) {
  if (key && !(key = bindings::known_number(key))) return false;
  if (kind == Read::kType) {
    PyTypeObject* type = Py_TYPE(from.o);
    if (key && type->tp_flags & Py_TPFLAGS_HEAPTYPE && !bridge::is_tensor(from.o)) {
      entry_->guards.require_lookup(type, key, value->o);
      // No attribute of the object hides the method.
      PyObject** place =
          value->o && PyFunction_Check(value->o) ? _PyObject_GetDictPtr(from.o) : nullptr;
      Prov* p = place && !is_written(from.o, key) ? source(from) : nullptr;
      if (p && !(*place && PyDict_GetItemWithError(*place, key))) {
        GuardProgram& g = entry_->guards;
        g.require_absent(g.fetch(Fetch::kInstanceDict, static_cast<int>(p->id), nullptr), key);
      }
      if (value->o && !value->p && !is_plain_value(value->o) && !is_singleton(value->o)) {
        value->p = known(value->o);
        if (!value->p)
          value->p = constant(value->o, cat(type->tp_name, ".", PyUnicode_AsUTF8(key)));
      }
    }
    return true;
  }
  if (kind == Read::kItem && is_foreign(from.o)) return refuse_foreign(from.o);
  if (kind == Read::kBuiltin && (is_identity(value->o) || is_singleton(value->o))) {
    GuardProgram& g = entry_->guards;
    g.require(g.fetch(Fetch::kDictItem, dict_slot(from.o), key), Check::kIdentity, value->o);
    value->p = nullptr;  // what is in it stays what it is
    return true;
  }
  if (kind == Read::kItem) {
    look_at_key(key);
    if (!is_container(from.o)) look_at(from, kOpaqueDepth);
  }
  if (!value->p && from.o && !bindings::tensor_proxy_state(from.o)) {
    int slot = -1;
    if (appended_.contains(from.o)) look_inside(from.o, known(from.o), 1);
    if (is_written(from.o, kind == Read::kCell ? from.o : key)) {
      value->p = known(value->o);
    } else if (place(kind, from, key, value->o, &slot)) {
      // Attributes of modules and classes are constants of a library, as a rule.
      const bool constant =
          kind == Read::kDefault || kind == Read::kClosure ||
          (kind == Read::kAttr && (PyModule_Check(from.o) || PyType_Check(from.o)));
      const bool scheduled =
          kind == Read::kItem && PyFloat_CheckExact(value->o) && is_parameter_group(from.o);
      if ((!constant && is_symbolic(value->o)) || scheduled) {
        PyObject* number = number_in(slot, value->o);
        if (!number) return false;
        Py_INCREF(number);
        Py_SETREF(value->o, number);
        value->p = known(number);
      } else {
        value->p = track(slot, value->o);
      }
    } else {
      value->p = known(value->o);
    }
  }
  return to_proxy(value);
}

bool Acquisition::absent(interp::Frame&, Read kind, Val from, PyObject* key) {
  if (key && !(key = bindings::known_number(key))) return false;
  GuardProgram& g = entry_->guards;
  if (!from.o || is_written(from.o, key)) return true;
  if (bindings::tensor_proxy_state(from.o)) {  // attributes that Python code put on the tensor
    PyObject* tensor = kind == Read::kAttr ? recorder_->tensor_of(from.o) : nullptr;
    Prov* p = tensor ? known(tensor) : nullptr;
    PyObject** place = p ? _PyObject_GetDictPtr(tensor) : nullptr;
    if (place && !(*place && PyDict_GetItemWithError(*place, key)))
      g.require_absent(g.fetch(Fetch::kInstanceDict, static_cast<int>(p->id), nullptr), key);
    return true;
  }
  if (kind == Read::kGlobal) {
    g.require_absent(dict_slot(from.o), key);
    return true;
  }
  if (kind == Read::kItem) look_at_key(key);
  Prov* p = source(from);
  if (!p) return true;
  const int slot = static_cast<int>(p->id);
  if (kind == Read::kItem && PyDict_Check(from.o)) {
    if (PyDict_Contains(from.o, key) == 0) g.require_absent(slot, key);
    PyErr_Clear();
  } else if (kind == Read::kAttr) {
    if (PyType_Check(from.o)) {
      auto* type = reinterpret_cast<PyTypeObject*>(from.o);
      g.require_lookup(type, key, _PyType_Lookup(type, key));
    } else {
      PyObject** place = _PyObject_GetDictPtr(from.o);
      // A property that raises AttributeError may hide an entry of the dictionary.
      if (place && !(*place && PyDict_GetItemWithError(*place, key)))
        g.require_absent(g.fetch(Fetch::kInstanceDict, slot, nullptr), key);
      g.require_lookup(Py_TYPE(from.o), key, _PyType_Lookup(Py_TYPE(from.o), key));
    }
  } else {
    look_at(from, kOpaqueDepth);
  }
  return true;
}

// A proxy does not have what Python code put on its tensor.
interp::Answer Acquisition::missing(interp::Frame&, Val object, PyObject* name, Val* result) {
  PyObject* tensor =
      bindings::tensor_proxy_state(object.o) ? recorder_->tensor_of(object.o) : nullptr;
  PyObject** place = tensor ? _PyObject_GetDictPtr(tensor) : nullptr;
  PyObject* value = place && *place ? PyDict_GetItemWithError(*place, name) : nullptr;
  if (!value) return interp::Answer::kNotHandled;
  *result = {Py_NewRef(value), known(value)};
  if (Prov* p = known(tensor)) {
    GuardProgram& g = entry_->guards;
    const int attributes = g.fetch(Fetch::kInstanceDict, static_cast<int>(p->id), nullptr);
    result->p = track(g.fetch(Fetch::kDictItem, attributes, name), value);
  }
  return to_proxy(result) ? interp::Answer::kDone : interp::Answer::kError;
}

bool Acquisition::to_proxy(Val* value) {
  if (!value->o || !bridge::is_tensor(value->o) || bindings::tensor_proxy_state(value->o))
    return true;
  PyObject* proxy = proxy_of(value->o);
  if (!proxy) return false;
  Py_INCREF(proxy);
  Py_SETREF(value->o, proxy);
  return true;
}

}  // namespace fulmen::jit
