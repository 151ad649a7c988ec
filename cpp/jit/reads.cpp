// What the program reads: where it is found again at the next call, and what must hold there.
#include <Python.h>
#include <structmember.h>

#include <algorithm>
#include <string_view>

#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"

extern "C" {
PyAPI_FUNC(PyObject**) _PyObject_GetDictPtr(PyObject*);
PyAPI_FUNC(PyObject*) _PyType_Lookup(PyTypeObject*, PyObject*);
}

namespace fulmen::jit {

using interp::Prov;
using interp::Read;
using interp::Val;

namespace {

bool is_plain_value(PyObject* o) {
  PyTypeObject* t = Py_TYPE(o);
  return t == &PyLong_Type || t == &PyFloat_Type || t == &PyUnicode_Type || t == &PyBytes_Type ||
         t == &PyComplex_Type || t == &PyRange_Type || t == &PySlice_Type;
}

// An instance of a class that is derived from a plain one, as numpy.float64.
bool is_derived_value(PyObject* o) {
  return PyLong_Check(o) || PyFloat_Check(o) || PyUnicode_Check(o) || PyBytes_Check(o) ||
         PyComplex_Check(o);
}

bool is_singleton(PyObject* o) {
  return o == Py_None || PyBool_Check(o) || o == Py_Ellipsis || o == Py_NotImplemented;
}

// Objects whose identity says all: what they hold is looked at where it is read.
bool is_identity(PyObject* o) {
  return PyType_Check(o) || PyModule_Check(o) || PyCFunction_Check(o) || PyCode_Check(o) ||
         Py_IS_TYPE(o, &PyMethodDescr_Type) || Py_IS_TYPE(o, &PyWrapperDescr_Type) ||
         Py_IS_TYPE(o, &PyGetSetDescr_Type) || is_enum_member(o);
}

bool is_container(PyObject* o) {
  return PyTuple_Check(o) || PyList_Check(o) || PyDict_Check(o) || PyAnySet_Check(o);
}

PyTypeObject* type_in(const char* path) {
  return reinterpret_cast<PyTypeObject*>(bridge::resolve_torch_name(path));
}

std::string name_of(PyObject* o) {
  PyObject* name = PyObject_GetAttrString(o, "__name__");
  const char* text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
  std::string label = text ? text : "?";
  Py_XDECREF(name);
  PyErr_Clear();
  return label;
}

bool is_deque(PyObject* o) {
  static PyTypeObject* type = type_in("collections.deque");
  return type && PyObject_TypeCheck(o, type);
}

bool hashes_by_identity(PyObject* o) { return Py_TYPE(o)->tp_hash == PyBaseObject_Type.tp_hash; }

}  // namespace

bool is_partial(PyObject* o) {
  static PyTypeObject* type = type_in("functools.partial");
  return type && PyObject_TypeCheck(o, type);
}

// Two of them are equal if they are the same object, and their hash is that of their address.
bool compares_by_identity(PyObject* o) {
  static PyObject* const eq = PyUnicode_InternFromString("__eq__");
  PyTypeObject* t = Py_TYPE(o);
  return t->tp_richcompare == PyBaseObject_Type.tp_richcompare ||
         _PyType_Lookup(t, eq) == _PyType_Lookup(&PyBaseObject_Type, eq);
}

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
  Val v{Py_NewRef(*object), track(entry_->guards.argument(position), *object)};
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
  return it != written_.end() && it->second.contains(key);
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
      value->p = track(slot, value->o);
    } else {
      value->p = known(value->o);
    }
  }
  return to_proxy(value);
}

bool Acquisition::absent(interp::Frame&, Read kind, Val from, PyObject* key) {
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

// Guards all items of a container, to a depth.
void Acquisition::look_inside(PyObject* o, Prov* p, int depth) {
  if (depth == 0 || !is_container(o) || rewritten_.contains(o)) return;
  int& looked = looked_inside_[o];
  if (looked >= depth) return;
  looked = depth;
  GuardProgram& g = entry_->guards;
  const int slot = static_cast<int>(p->id);
  if (PyList_Check(o) || PyTuple_Check(o)) {
    const auto appended = appended_.find(o);
    const Py_ssize_t n = appended == appended_.end() ? Py_SIZE(o) : appended->second;
    if (appended != appended_.end()) {  // from here on its contents count
      appended_.erase(appended);
      rewritten_.insert(o);
    }
    g.require(slot, Check::kLength, nullptr, n);
    for (Py_ssize_t i = 0; i < n; ++i) {
      PyObject* item = PyList_Check(o) ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i);
      look_inside(item, track(g.fetch(Fetch::kSequenceItem, slot, nullptr, i), item), depth - 1);
    }
  } else if (PyDict_Check(o)) {
    PyObject* original = original_dict(o);
    PyObject* keys = original ? PyDict_Keys(original) : nullptr;
    PyObject* names = keys ? PyList_AsTuple(keys) : nullptr;
    Py_XDECREF(original);
    Py_XDECREF(keys);
    if (!names) {
      PyErr_Clear();
      return;
    }
    g.require(slot, Check::kKeys, names);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
      PyObject* key = PyTuple_GET_ITEM(names, i);
      PyObject* item = PyDict_GetItemWithError(o, key);
      if (!item || is_written(o, key)) continue;
      look_inside(item, track(g.fetch(Fetch::kDictItem, slot, key), item), depth - 1);
    }
    Py_DECREF(names);
  } else {
    PyObject* copy = PyFrozenSet_Check(o) ? PyFrozenSet_New(o) : PySet_New(o);
    if (copy) g.require(slot, Check::kValue, copy);
    Py_XDECREF(copy);
    PyErr_Clear();
  }
}

// What a callable made of others holds: it is called without being read.
void Acquisition::look_inside_parts(PyObject* callable, int slot) {
  static PyObject* const self = PyUnicode_InternFromString("__self__");
  static PyObject* const func = PyUnicode_InternFromString("__func__");
  GuardProgram& g = entry_->guards;
  track(g.fetch(Fetch::kAttr, slot, func), PyMethod_GET_FUNCTION(callable));
  track(g.fetch(Fetch::kAttr, slot, self), PyMethod_GET_SELF(callable));
}

void Acquisition::look_inside_partial(PyObject* partial, Prov* p) {
  static PyObject* const names[] = {PyUnicode_InternFromString("func"),
                                    PyUnicode_InternFromString("args"),
                                    PyUnicode_InternFromString("keywords")};
  GuardProgram& g = entry_->guards;
  for (PyObject* name : names) {
    PyObject* part = PyObject_GetAttr(partial, name);
    if (!part) {
      PyErr_Clear();
      continue;
    }
    look_inside(part, track(g.fetch(Fetch::kAttr, static_cast<int>(p->id), name), part), 1);
    Py_DECREF(part);
  }
}

void Acquisition::look_at(Val value, int depth) {
  PyObject* o = value.o;
  Prov* p = o && !bindings::tensor_proxy_state(o) ? source(value) : nullptr;
  if (!p || is_singleton(o) || is_plain_value(o) || is_identity(o)) return;
  if (is_container(o)) return look_inside(o, p, depth);
  GuardProgram& g = entry_->guards;
  const int slot = static_cast<int>(p->id);
  if (is_partial(o)) return look_inside_partial(o, p);
  if (is_deque(o)) {
    if (!looked_inside_.emplace(o, 1).second) return;
    g.require(slot, Check::kLength, nullptr, PyObject_Size(o));
    for (Py_ssize_t i = 0; i < PyObject_Size(o); ++i) {
      PyObject* item = PySequence_GetItem(o, i);
      if (!item) break;
      track(g.fetch(Fetch::kSequenceItem, slot, nullptr, i), item);
      Py_DECREF(item);
    }
    PyErr_Clear();
    return;
  }
  static PyTypeObject* proxy_of_mapping = &PyDictProxy_Type;
  if (Py_IS_TYPE(o, proxy_of_mapping)) {
    PyObject* copy = PyDict_New();
    if (copy && PyDict_Update(copy, o) == 0) {
      PyObject *key = nullptr, *item = nullptr;
      Py_ssize_t at = 0;
      g.require(slot, Check::kLength, nullptr, PyDict_GET_SIZE(copy));
      while (PyDict_Next(copy, &at, &key, &item))
        track(g.fetch(Fetch::kMappingItem, slot, key), item);
    }
    PyErr_Clear();
    Py_XDECREF(copy);
    return;
  }
  if (bridge::is_tensor(o)) return;
  PyTypeObject* type = Py_TYPE(o);
  // Objects of classes written in Python are looked at by their methods, which are followed.
  if (type->tp_base == &PyBaseObject_Type && type->tp_flags & Py_TPFLAGS_HEAPTYPE &&
      type->tp_dictoffset != 0) {
    return;
  }
  if (PyObject* contents = buffer_contents(o)) {
    g.require(slot, Check::kBuffer, contents);
    Py_DECREF(contents);
  } else if (type->tp_hash && !hashes_by_identity(o) &&
             type->tp_hash != PyObject_HashNotImplemented &&
             !(type->tp_flags & Py_TPFLAGS_HEAPTYPE) && !PyFunction_Check(o) &&
             !PyMethod_Check(o)) {
    g.require(slot, Check::kValue, o);  // immutable, then
  }
}

void Acquisition::look_at_key(PyObject* key) {
  if (!key || is_singleton(key) || is_plain_value(key)) return;
  if (bindings::tensor_proxy_state(key)) return;
  Prov* p = known(key);
  if (PyTuple_Check(key) || PyFrozenSet_Check(key)) {
    if (p) look_inside(key, p, kOpaqueDepth);
    for (Py_ssize_t i = 0; PyTuple_Check(key) && i < PyTuple_GET_SIZE(key); ++i)
      look_at_key(PyTuple_GET_ITEM(key, i));
  } else if (p && hashes_by_identity(key)) {
    entry_->guards.require(static_cast<int>(p->id), Check::kIdentity, key);
  } else if (p) {
    look_at({key, p}, 1);
  }
}

void Acquisition::identity(interp::Frame&, Val a, Val b) {
  const auto original = [&](Val* v) {
    if (!bindings::tensor_proxy_state(v->o)) return;
    PyObject* tensor = recorder_->tensor_of(v->o);
    *v = {tensor, tensor ? known(tensor) : nullptr};
  };
  if (is_singleton(a.o) || is_singleton(b.o)) return;
  original(&a);
  original(&b);
  if (!a.o || !b.o || Py_TYPE(a.o) != Py_TYPE(b.o) || is_identity(a.o)) return;
  Prov *p = source(a), *q = source(b);
  if (!p || !q) {
    // Two constants of the same value need not be the same object.
    if (!is_plain_value(a.o) || !(p || q)) return;
    Val& old = p ? a : b;
    const int slot = static_cast<int>((p ? p : q)->id);
    if (a.o == b.o) entry_->guards.require(slot, Check::kIdentity, old.o);
    return;
  }
  if (p->id == q->id) return;
  entry_->guards.require(static_cast<int>(p->id), a.o == b.o ? Check::kSame : Check::kNotSame,
                         nullptr, q->id);
}

void Acquisition::search(interp::Frame& frame, Val container, Val item) {
  if (PyAnySet_Check(container.o)) return look_at_key(item.o);
  if (!PyList_Check(container.o) && !PyTuple_Check(container.o)) return;
  contents(frame, container);
  const bool by_identity = bindings::tensor_proxy_state(item.o) || compares_by_identity(item.o);
  for (Py_ssize_t i = 0; by_identity && i < Py_SIZE(container.o); ++i) {
    PyObject* other = PyList_Check(container.o) ? PyList_GET_ITEM(container.o, i)
                                                : PyTuple_GET_ITEM(container.o, i);
    identity(frame, item, {other, known(other)});
  }
}

void Acquisition::looked_up(interp::Frame&, PyTypeObject* type, PyObject* name, PyObject* found) {
  guard_found(type, name, found);
}

// What is found on a class, and the code of the functions that it stands for.
void Acquisition::guard_found(PyTypeObject* type, PyObject* name, PyObject* found) {
  static PyTypeObject* tensor = type_in("torch.Tensor");
  if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || PyType_IsSubtype(type, tensor)) return;
  entry_->guards.require_lookup(type, name, found);
  if (!found || !found_.insert(found).second) return;
  const std::string label = cat(type->tp_name, ".", PyUnicode_AsUTF8(name));
  const auto keep = [&](PyObject* o, const char* part) {
    if (o && PyFunction_Check(o)) constant(o, label + part);
  };
  if (Py_IS_TYPE(found, &PyProperty_Type) || Py_IS_TYPE(found, &PyClassMethod_Type) ||
      Py_IS_TYPE(found, &PyStaticMethod_Type)) {
    for (const char* part : {"fget", "fset", "fdel", "__func__"}) {
      PyObject* o = PyObject_GetAttrString(found, part);
      PyErr_Clear();
      keep(o, part);
      Py_XDECREF(o);
    }
  } else if (PyFunction_Check(found) ||
             (!is_plain_value(found) && !is_singleton(found) && !is_identity(found))) {
    constant(found, label);
  }
}

bool Acquisition::contents(interp::Frame& frame, Val container) {
  // An iterator that is older than the call: a step of it can't be undone, nor told by a guard.
  if (PyIter_Check(container.o) && known(container.o))
    return refuse(frame, "running through an iterator made outside of the call");
  look_at(container, 1);
  return true;
}

bool Acquisition::member(interp::Frame& frame, Val dict, PyObject* key) {
  look_at_key(key);
  if (!source(dict)) return true;
  PyObject* value = PyDict_GetItemWithError(dict.o, key);
  if (!value) {
    PyErr_Clear();  // an unhashable key: the lookup itself says so
    return absent(frame, Read::kItem, dict, key);
  }
  // That the key is there, not what it leads to.
  Prov* p = source(dict);
  if (!is_written(dict.o, key))
    entry_->guards.fetch(Fetch::kDictItem, static_cast<int>(p->id), key);
  return true;
}

// Methods of dictionaries that look at one key. True if nothing else of the arguments is looked at.
bool Acquisition::read_natively(interp::Frame& frame, PyObject* callee, const interp::Args& args) {
  static const PyMethodDef* const methods[] = {
      reinterpret_cast<PyMethodDescrObject*>(
          _PyType_Lookup(&PyDict_Type, PyUnicode_InternFromString("get")))
          ->d_method,
      reinterpret_cast<PyMethodDescrObject*>(
          _PyType_Lookup(&PyDict_Type, PyUnicode_InternFromString("__contains__")))
          ->d_method,
      reinterpret_cast<PyMethodDescrObject*>(
          _PyType_Lookup(&PyDict_Type, PyUnicode_InternFromString("__getitem__")))
          ->d_method};
  const PyMethodDef* method = nullptr;
  PyObject *dict = nullptr, *key = nullptr;
  if (Py_IS_TYPE(callee, &PyMethodDescr_Type) && args.count > 1) {
    method = reinterpret_cast<PyMethodDescrObject*>(callee)->d_method;
    dict = args.objects[0];
    key = args.objects[1];
  } else if (PyCFunction_Check(callee) && PyCFunction_GET_SELF(callee) && args.count > 0) {
    method = reinterpret_cast<PyCFunctionObject*>(callee)->m_ml;
    dict = PyCFunction_GET_SELF(callee);
    key = args.objects[0];
  }
  if (!method || std::find(std::begin(methods), std::end(methods), method) == std::end(methods) ||
      !PyDict_Check(dict)) {
    return false;
  }
  Prov* p = source({dict, nullptr});
  if (!p) return true;
  PyObject* value = PyDict_GetItemWithError(dict, key);
  PyErr_Clear();
  if (method == methods[1] || !value) return member(frame, {dict, p}, key);
  Val found{Py_NewRef(value), nullptr};
  const bool good = read(frame, Read::kItem, {dict, p}, key, &found);
  Py_XDECREF(found.o);
  return good;
}

// What a function in C sees of its arguments besides what is in them.
void Acquisition::look_at_arguments(interp::Frame& frame, PyObject* callee,
                                    const interp::Args& args) {
  static const std::unordered_set<std::string_view> kSearching = {"index", "count", "remove",
                                                                  "__contains__"};
  static const std::unordered_set<std::string_view> kByKey = {
      "__contains__", "__delitem__", "__getitem__", "add",    "discard",
      "get",          "move_to_end", "pop",         "remove", "setdefault"};
  PyObject* self = nullptr;
  const char* name = nullptr;
  Py_ssize_t first = 0;
  if (PyCFunction_Check(callee)) {
    self = PyCFunction_GET_SELF(callee);
    name = reinterpret_cast<PyCFunctionObject*>(callee)->m_ml->ml_name;
  } else if (Py_IS_TYPE(callee, &PyMethodDescr_Type) && args.count > 0) {
    self = args.objects[0];
    name = reinterpret_cast<PyMethodDescrObject*>(callee)->d_method->ml_name;
    first = 1;
  }
  if (!self || args.count <= first) return;
  const Val item = args.at(first);
  if (PyModule_Check(self)) {
    const bool by_identity = std::string_view(name) == "id" ||
                             (std::string_view(name) == "hash" && hashes_by_identity(item.o));
    Prov* p = by_identity && !bindings::tensor_proxy_state(item.o) ? source(item) : nullptr;
    if (p) entry_->guards.require(static_cast<int>(p->id), Check::kIdentity, item.o);
    if (std::string_view(name) == "hash") look_at_key(item.o);
  } else if (is_container(self)) {
    if (kSearching.contains(name)) search(frame, {self, nullptr}, item);
    if (kByKey.contains(name) && !PyList_Check(self)) look_at_key(item.o);
  }
}

bool Acquisition::before_opaque(interp::Frame& frame, Val callee, const interp::Args& args) {
  look_at_arguments(frame, callee.o, args);
  if (store_natively(frame, callee.o, args) || read_natively(frame, callee.o, args)) return true;
  if (PyCFunction_Check(callee.o)) {
    PyObject* self = PyCFunction_GET_SELF(callee.o);
    if (self) look_at({self, nullptr}, kOpaqueDepth);
  }
  for (Py_ssize_t i = 0; i < args.total(); ++i) look_at(args.at(i), kOpaqueDepth);
  return true;
}

bool Acquisition::after_opaque(interp::Frame&, Val callee, const interp::Args& args, Val* result) {
  if (PyWeakref_CheckRef(callee.o)) {
    if (Prov* p = source(callee)) {
      const int slot = static_cast<int>(p->id);
      result->p = track(entry_->guards.fetch(Fetch::kReferent, slot, nullptr), result->o);
    }
  } else if (PyCFunction_Check(callee.o) && PyDict_Check(result->o) && args.total() == 1) {
    // vars(x)
    Prov* p = source(args.at(0));
    PyObject** place = p ? _PyObject_GetDictPtr(args.objects[0]) : nullptr;
    if (place && *place == result->o) {
      const int slot = static_cast<int>(p->id);
      result->p = track(entry_->guards.fetch(Fetch::kInstanceDict, slot, nullptr), result->o);
    }
  }
  if (!result->p) result->p = known(result->o);
  return to_proxy(result);
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
