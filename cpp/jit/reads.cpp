// What the program reads: where it is found again at the next call, and what must hold there.
#include <Python.h>
#include <structmember.h>

#include <algorithm>

#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
#include "support/cat.h"

extern "C" {
PyAPI_FUNC(PyObject**) _PyObject_GetDictPtr(PyObject*);
PyAPI_FUNC(PyObject*) _PyType_Lookup(PyTypeObject*, PyObject*);
}

namespace fulmen::jit {

using interp::Prov;
using interp::Read;
using interp::Val;

namespace {

// How deep opaque code is taken to look into containers that it is given.
constexpr int kOpaqueDepth = 4;

bool is_plain_value(PyObject* o) {
  PyTypeObject* t = Py_TYPE(o);
  return t == &PyLong_Type || t == &PyFloat_Type || t == &PyUnicode_Type || t == &PyBytes_Type ||
         t == &PyComplex_Type || t == &PyRange_Type || t == &PySlice_Type;
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

bool is_thread_local(const PyTypeObject* type) {
  for (; type; type = type->tp_base) {
    if (std::string_view(type->tp_name) == "_thread._local") return true;
  }
  return false;
}

// Functions of C that change the list or dictionary that they are given first.
bool changes_first_argument(PyObject* callee) {
  PyObject* module = reinterpret_cast<PyCFunctionObject*>(callee)->m_module;
  const char* from = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : nullptr;
  if (!from) return false;
  const std::string_view name = reinterpret_cast<PyCFunctionObject*>(callee)->m_ml->ml_name;
  if (std::string_view(from) == "_operator") {
    for (const std::string_view changing :
         {"setitem", "delitem", "iadd", "iconcat", "imul", "ior", "iand", "ixor", "isub"}) {
      if (name == changing) return true;
    }
    return false;
  }
  return std::string_view(from) == "_heapq" ||
         (std::string_view(from) == "_bisect" && name.starts_with("insort"));
}

bool is_container(PyObject* o) {
  return PyTuple_Check(o) || PyList_Check(o) || PyDict_Check(o) || PyAnySet_Check(o);
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
  if (!PyDict_Check(target)) return false;
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
  if (found != value) return false;  // what a descriptor computed
  if (place) g.require_absent(g.fetch(Fetch::kInstanceDict, from, nullptr), name);
  *slot = g.constant(value, cat(Py_TYPE(object)->tp_name, ".", PyUnicode_AsUTF8(name)));
  return true;
}

bool Acquisition::place(Read kind, Val from, PyObject* key, PyObject* value, int* slot) {
  GuardProgram& g = entry_->guards;
  switch (kind) {
    case Read::kGlobal: *slot = g.fetch(Fetch::kDictItem, dict_slot(from.o), key); return true;
    case Read::kBuiltin:
      // Builtins are taken to stay what they are; that no global of the name hides them is not.
      return false;
    case Read::kCell: {
      Prov* p = known(from.o);  // a cell that the call made has the provenance of what is in it
      if (!p) return false;
      *slot = g.fetch(Fetch::kCell, static_cast<int>(p->id), nullptr);
      return true;
    }
    case Read::kAttr: {
      Prov* p = source(from);
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
  if (key) key = bindings::known_number(key);
  if (kind == Read::kType) {
    PyTypeObject* type = Py_TYPE(from.o);
    if (key && type->tp_flags & Py_TPFLAGS_HEAPTYPE && !bridge::is_tensor(from.o)) {
      entry_->guards.require_lookup(type, key, value->o);
      if (value->o && !value->p && !is_plain_value(value->o) && !is_singleton(value->o))
        value->p = constant(value->o, cat(type->tp_name, ".", PyUnicode_AsUTF8(key)));
    }
    return true;
  }
  if (kind == Read::kItem && is_foreign(from.o)) return refuse_foreign(from.o);
  if (kind == Read::kBuiltin && from.o) {
    value->p = nullptr;
    return true;
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
      if (!constant && is_symbolic(value->o)) {
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
  if (key) key = bindings::known_number(key);
  GuardProgram& g = entry_->guards;
  if (!from.o || is_written(from.o, key) || bindings::tensor_proxy_state(from.o)) return true;
  if (kind == Read::kGlobal) {
    g.require_absent(dict_slot(from.o), key);
    return true;
  }
  Prov* p = source(from);
  if (!p) return true;
  const int slot = static_cast<int>(p->id);
  if (kind == Read::kItem && PyDict_Check(from.o)) {
    g.require_absent(slot, key);
  } else if (kind == Read::kAttr) {
    if (PyType_Check(from.o)) {
      g.require_lookup(reinterpret_cast<PyTypeObject*>(from.o), key, nullptr);
    } else {
      if (_PyObject_GetDictPtr(from.o))
        g.require_absent(g.fetch(Fetch::kInstanceDict, slot, nullptr), key);
      g.require_lookup(Py_TYPE(from.o), key, _PyType_Lookup(Py_TYPE(from.o), key));
    }
  } else if (is_container(from.o)) {
    look_inside(from.o, p, 1);
  }
  return true;
}

// Guards all items of a container, to a depth.
void Acquisition::look_inside(PyObject* o, Prov* p, int depth) {
  if (depth == 0 || !is_container(o) || rewritten_.contains(o)) return;
  if (!looked_inside_.insert(o).second) return;
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

bool Acquisition::contents(interp::Frame&, Val container) {
  // An iterator that is older than the call: a step of it can't be undone, nor told by a guard.
  if (PyIter_Check(container.o) && known(container.o))
    return refuse("running through an iterator made outside of the call");
  if (is_foreign(container.o)) return refuse_foreign(container.o);
  if (Prov* p = source(container)) look_inside(container.o, p, 1);
  return true;
}

bool Acquisition::member(interp::Frame& frame, Val dict, PyObject* key) {
  key = bindings::known_number(key);
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

bool Acquisition::before_opaque(interp::Frame& frame, Val callee, const interp::Args& args) {
  if (store_natively(frame, callee.o, args) || read_natively(frame, callee.o, args)) return true;
  if (PyCFunction_Check(callee.o)) {
    PyObject* self = PyCFunction_GET_SELF(callee.o);
    if (self && is_foreign(self)) return refuse_foreign(self);
    if (Prov* p = self ? known(self) : nullptr) look_inside(self, p, kOpaqueDepth);
    if (args.count > 0 && changes_first_argument(callee.o)) {
      if (!mutate(frame, args.at(0), callee.o)) return false;
    }
  }
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    if (is_foreign(args.objects[i])) return refuse_foreign(args.objects[i]);
    if (Prov* p = source(args.at(i))) look_inside(args.objects[i], p, kOpaqueDepth);
  }
  return true;
}

bool Acquisition::after_opaque(interp::Frame&, Val callee, const interp::Args&, Val* result) {
  if (PyWeakref_CheckRef(callee.o) && source(callee)) {
    static PyObject* const call = bridge::resolve_torch_name("operator.call");
    const int slot = entry_->guards.compute(call, static_cast<int>(source(callee)->id), -1);
    result->p = track(slot, result->o);
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
