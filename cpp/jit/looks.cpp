// What code that no hook sees looks at: the contents of containers, keys, identities, and what is
// found on classes.
#include <Python.h>

#include <algorithm>
#include <string_view>

#include "bindings/symbolic_number.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
#include "jit/kinds.h"
#include "py/private_api.h"

namespace fulmen::jit {

using interp::Prov;
using interp::Read;
using interp::Val;

namespace {

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

bool is_number(PyObject* o) {
  return bindings::symbolic_number(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o);
}

}  // namespace

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
  if (bindings::symbolic_number(o)) return;
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

void Acquisition::look_at_operands(const interp::Args& args) {
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    if (!is_foreign(args.objects[i])) look_at(args.at(i), kOpaqueDepth);
  }
}

// A dictionary of optimizer states has tensors as keys, which a proxy only stands for.
PyObject* Acquisition::key_of(PyObject* key) {
  PyObject* tensor = bindings::tensor_proxy_state(key) ? recorder_->tensor_of(key) : nullptr;
  return tensor && !segment_source_.contains(tensor) ? tensor : key;
}

void Acquisition::look_at_key(PyObject* key) {
  if (!key || is_singleton(key) || is_plain_value(key)) return;
  if (bindings::symbolic_number(key)) return;  // its hash guards its value
  if (bindings::tensor_proxy_state(key)) return;
  Prov* p = known(key);
  if (p && bridge::is_tensor(key)) {
    entry_->guards.require(static_cast<int>(p->id), Check::kIdentity, key);
    return;
  }
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

// The call is followed again with numbers that are known.
void Acquisition::refuse_identity() {
  refuse("telling numbers apart by identity");
  PyErr_Clear();
}

void Acquisition::identity(interp::Frame&, Val a, Val b) {
  const auto original = [&](Val* v) {
    if (!bindings::tensor_proxy_state(v->o)) return;
    PyObject* tensor = recorder_->tensor_of(v->o);
    *v = {tensor, tensor ? known(tensor) : nullptr};
  };
  if (is_singleton(a.o) || is_singleton(b.o)) return;
  if (bindings::symbolic_number(a.o) || bindings::symbolic_number(b.o)) {
    if (is_number(a.o) && is_number(b.o)) refuse_identity();
    return;
  }
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

bool Acquisition::contents(interp::Frame&, Val container) {
  // An iterator that is older than the call: a step of it can't be undone, nor told by a guard.
  if (PyIter_Check(container.o) && known(container.o))
    return refuse("running through an iterator made outside of the call");
  if (is_foreign(container.o)) return refuse_foreign(container.o);
  look_at(container, 1);
  return true;
}

bool Acquisition::member(interp::Frame& frame, Val dict, PyObject* key) {
  if (!(key = bindings::known_number(key))) return false;
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
    if (by_identity && bindings::symbolic_number(item.o)) return refuse_identity();
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
    if (self && is_foreign(self)) return refuse_foreign(self);
    if (self) look_at({self, nullptr}, kOpaqueDepth);
    if (args.count > 0 && changes_first_argument(callee.o)) {
      look_at(args.at(0), kOpaqueDepth);
      if (!mutate(frame, args.at(0), callee.o)) return false;
    }
  }
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    if (is_foreign(args.objects[i])) return refuse_foreign(args.objects[i]);
    look_at(args.at(i), kOpaqueDepth);
  }
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

}  // namespace fulmen::jit
