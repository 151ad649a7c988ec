#include "jit/recipe.h"

#include "bridge/bridge.h"
#include "py/private_api.h"

namespace fulmen::jit {
namespace {

bool is_atomic(PyObject* o) {
  PyTypeObject* t = Py_TYPE(o);
  return o == Py_None || o == Py_True || o == Py_False || o == Py_Ellipsis ||
         o == Py_NotImplemented || t == &PyLong_Type || t == &PyFloat_Type ||
         t == &PyUnicode_Type || t == &PyBytes_Type || t == &PyComplex_Type || t == &PyRange_Type ||
         t == &PySlice_Type || t == &PyModule_Type || t == &PyCode_Type || t == &PyCFunction_Type ||
         t == &PyMethodDescr_Type || t == &PyWrapperDescr_Type || t == &PyGetSetDescr_Type ||
         PyType_Check(o);
}

// The nearest base that is written in C.
PyTypeObject* native_base(PyTypeObject* t) {
  while (t->tp_flags & Py_TPFLAGS_HEAPTYPE && t->tp_base) t = t->tp_base;
  return t;
}

PyObject* intern(const char* s) { return PyUnicode_InternFromString(s); }

// The names of an instance's __slots__.
PyObject* slot_names(PyTypeObject* type) {
  static PyObject* function = bridge::resolve_torch_name("copyreg._slotnames");
  return function ? PyObject_CallOneArg(function, reinterpret_cast<PyObject*>(type)) : nullptr;
}

// Into the slot or the __dict__, whatever properties the class has.
bool set_attribute(PyObject* object, PyObject* name, PyObject* value) {
  PyObject* d = _PyType_Lookup(Py_TYPE(object), name);
  if (d && Py_IS_TYPE(d, &PyMemberDescr_Type))
    return PyObject_GenericSetAttr(object, name, value) == 0;
  PyObject* dict = PyObject_GenericGetDict(object, nullptr);
  const bool good = dict && PyDict_SetItem(dict, name, value) == 0;
  Py_XDECREF(dict);
  return good;
}

}  // namespace

bool is_enum_member(PyObject* object) {
  static auto* type = reinterpret_cast<PyTypeObject*>(bridge::resolve_torch_name("enum.Enum"));
  return type && PyObject_TypeCheck(object, type);
}

Recipe::~Recipe() {
  if (!Py_IsInitialized()) return;
  for (const Node& n : nodes_) Py_XDECREF(n.object);
  for (PyObject* o : kept_) Py_DECREF(o);
}

int Recipe::make_node(Kind kind, PyObject* object) {
  Py_XINCREF(object);
  nodes_.push_back({kind, 0, object, {}});
  return static_cast<int>(nodes_.size() - 1);
}

int Recipe::output(int index) {
  const int node = make_node(Kind::kOutput, nullptr);
  nodes_.back().index = index;
  return node;
}

int Recipe::slot(int index) {
  const int node = make_node(Kind::kSlot, nullptr);
  nodes_.back().index = index;
  return node;
}

int Recipe::constant(PyObject* object) { return make_node(Kind::kConstant, object); }

bool Recipe::add_items(int node, PyObject* const* items, Py_ssize_t n, const Known& known) {
  for (Py_ssize_t i = 0; i < n; ++i) {
    const int item = add(items[i], known);
    if (item < 0) return false;
    nodes_[static_cast<size_t>(node)].items.push_back(item);
  }
  return true;
}

bool Recipe::add_dict(int node, PyObject* dict, const Known& known) {
  PyObject* list = PyDict_Items(dict);
  bool good = list != nullptr;
  for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(list); ++i) {
    good = add_items(node, &PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 0), 2, known);
  }
  Py_XDECREF(list);
  return good;
}

bool Recipe::add_instance(int node, PyObject* object, const Known& known) {
  bool good = true;
  if (PyTuple_Check(object)) {
    good = add_items(node, &PyTuple_GET_ITEM(object, 0), PyTuple_GET_SIZE(object), known);
  } else if (PyList_Check(object)) {
    PyObject* copy = PyList_AsTuple(object);
    good = copy && add_items(node, &PyTuple_GET_ITEM(copy, 0), PyTuple_GET_SIZE(copy), known);
    Py_XDECREF(copy);
  } else if (PyDict_Check(object)) {
    good = add_dict(node, object, known);
  } else if (PyAnySet_Check(object)) {
    PyObject* copy = PySequence_Tuple(object);
    good = copy && add_items(node, &PyTuple_GET_ITEM(copy, 0), PyTuple_GET_SIZE(copy), known);
    Py_XDECREF(copy);
  }
  if (!good) return false;
  nodes_[static_cast<size_t>(node)].index =
      static_cast<int>(nodes_[static_cast<size_t>(node)].items.size());
  PyObject* dict = PyObject_GenericGetDict(object, nullptr);
  if (dict) {
    good = add_dict(node, dict, known);
    Py_DECREF(dict);
  } else {
    PyErr_Clear();
  }
  PyObject* names = good ? slot_names(Py_TYPE(object)) : nullptr;
  if (!names) return false;
  for (Py_ssize_t i = 0; good && i < PyList_GET_SIZE(names); ++i) {
    PyObject* name = PyList_GET_ITEM(names, i);
    PyObject* value = PyObject_GenericGetAttr(object, name);
    if (!value) {
      PyErr_Clear();  // never assigned
      continue;
    }
    PyObject* const pair[] = {name, value};
    good = add_items(node, pair, 2, known);
    Py_DECREF(value);
  }
  Py_DECREF(names);
  return good;
}

int Recipe::add_function(PyObject* function, const Known& known) {
  const int node = make_node(Kind::kFunction, function);
  memo_.emplace(function, node);
  PyObject* closure = PyFunction_GET_CLOSURE(function);
  if (closure &&
      !add_items(node, &PyTuple_GET_ITEM(closure, 0), PyTuple_GET_SIZE(closure), known)) {
    return -1;
  }
  return node;
}

int Recipe::add_reduced(PyObject* object, const Known& known) {
  PyObject* reduced = PyObject_CallMethod(object, "__reduce_ex__", "i", 4);
  if (!reduced) return -1;
  int node = -1;
  if (PyTuple_Check(reduced) && PyTuple_GET_SIZE(reduced) >= 2) {
    node = make_node(Kind::kReduced, object);
    memo_.emplace(object, node);
    PyObject* parts[5] = {Py_None, Py_None, Py_None, Py_None, Py_None};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(reduced) && i < 5; ++i)
      parts[i] = PyTuple_GET_ITEM(reduced, i);
    PyObject* items = parts[3] == Py_None ? nullptr : PySequence_List(parts[3]);
    PyObject* pairs = parts[4] == Py_None ? nullptr : PySequence_List(parts[4]);
    PyObject* const kept[] = {parts[0], parts[1], parts[2], items ? items : Py_None,
                              pairs ? pairs : Py_None};
    if (PyErr_Occurred() || !add_items(node, kept, 5, known)) node = -1;
    Py_XDECREF(items);
    Py_XDECREF(pairs);
  } else {
    PyErr_Format(PyExc_TypeError, "cannot make an object of type %s again",
                 Py_TYPE(object)->tp_name);
  }
  Py_DECREF(reduced);
  return node;
}

int Recipe::add(PyObject* o, const Known& known) {
  const auto it = memo_.find(o);
  if (it != memo_.end()) return it->second;
  if (is_atomic(o)) return constant(o);
  Py_INCREF(o);
  kept_.push_back(o);
  int node = known(o);
  if (node >= 0) {
    memo_.emplace(o, node);
    return node;
  }
  if (PyErr_Occurred()) return -1;
  const auto begin = [&](Kind kind, PyObject* object) {
    node = make_node(kind, object);
    memo_.emplace(o, node);
    return node;
  };
  PyTypeObject* type = Py_TYPE(o);
  if (bridge::is_tensor(o)) return begin(Kind::kTensor, o);
  if (Arg ignored; bridge::torch_constant(o, &ignored)) return begin(Kind::kConstant, o);
  if (type == &PyTuple_Type || type == &PyList_Type || type == &PySet_Type ||
      type == &PyFrozenSet_Type) {
    begin(type == &PyTuple_Type  ? Kind::kTuple
          : type == &PyList_Type ? Kind::kList
          : type == &PySet_Type  ? Kind::kSet
                                 : Kind::kFrozenSet,
          nullptr);
    PyObject* copy = PySequence_Tuple(o);
    const bool good =
        copy && add_items(node, &PyTuple_GET_ITEM(copy, 0), PyTuple_GET_SIZE(copy), known);
    Py_XDECREF(copy);
    return good ? node : -1;
  }
  if (type == &PyDict_Type) {
    begin(Kind::kDict, nullptr);
    return add_dict(node, o, known) ? node : -1;
  }
  if (PyFunction_Check(o)) {
    return PyFunction_GET_CLOSURE(o) ? add_function(o, known) : begin(Kind::kConstant, o);
  }
  if (PyMethod_Check(o)) {
    begin(Kind::kMethod, nullptr);
    PyObject* const parts[] = {PyMethod_GET_FUNCTION(o), PyMethod_GET_SELF(o)};
    return add_items(node, parts, 2, known) ? node : -1;
  }
  if (PyCell_Check(o)) {
    begin(Kind::kCell, nullptr);
    PyObject* contents = PyCell_GET(o);
    return !contents || add_items(node, &contents, 1, known) ? node : -1;
  }
  if (is_enum_member(o)) return begin(Kind::kConstant, o);
  PyTypeObject* base = native_base(type);
  if (type->tp_flags & Py_TPFLAGS_HEAPTYPE &&
      (base == &PyBaseObject_Type || base == &PyTuple_Type || base == &PyList_Type ||
       base == &PyDict_Type || base == &PySet_Type || base == &PyFrozenSet_Type ||
       base == &PyODict_Type)) {
    begin(Kind::kObject, reinterpret_cast<PyObject*>(type));
    return add_instance(node, o, known) ? node : -1;
  }
  return add_reduced(o, known);
}

Recipe::Run::~Run() {
  for (PyObject* o : made_) Py_XDECREF(o);
}

PyObject* Recipe::Run::make(int node) {
  const Node& n = recipe_.nodes_[static_cast<size_t>(node)];
  switch (n.kind) {
    case Kind::kOutput: return Py_NewRef(outputs_[static_cast<size_t>(n.index)]);
    case Kind::kSlot: return Py_NewRef(slots_[static_cast<size_t>(n.index)]);
    case Kind::kConstant: return Py_NewRef(n.object);
    default: break;
  }
  PyObject*& made = made_[static_cast<size_t>(node)];
  if (!made) {
    made = create(node);
    if (!made || !fill(node, made)) return nullptr;
  }
  return Py_NewRef(made);
}

// The object, empty where it can be filled later: parts may refer to it.
PyObject* Recipe::Run::create(int node) {
  const Node& n = recipe_.nodes_[static_cast<size_t>(node)];
  const auto tuple_of = [&](size_t count) -> PyObject* {
    PyObject* t = PyTuple_New(static_cast<Py_ssize_t>(count));
    for (size_t i = 0; t && i < count; ++i) {
      PyObject* item = make(n.items[i]);
      if (!item) {
        Py_CLEAR(t);
      } else {
        PyTuple_SET_ITEM(t, static_cast<Py_ssize_t>(i), item);
      }
    }
    return t;
  };
  switch (n.kind) {
    case Kind::kTensor: {
      static PyObject* clone = intern("clone");
      return PyObject_CallMethodNoArgs(n.object, clone);
    }
    case Kind::kTuple: return tuple_of(n.items.size());
    case Kind::kList: return PyList_New(0);
    case Kind::kSet: return PySet_New(nullptr);
    case Kind::kFrozenSet: {
      PyObject* items = tuple_of(n.items.size());
      PyObject* set = items ? PyFrozenSet_New(items) : nullptr;
      Py_XDECREF(items);
      return set;
    }
    case Kind::kDict: return PyDict_New();
    case Kind::kCell: return PyCell_New(nullptr);
    case Kind::kMethod: {
      PyObject* f = make(n.items[0]);
      PyObject* self = f ? make(n.items[1]) : nullptr;
      PyObject* method = self ? PyMethod_New(f, self) : nullptr;
      Py_XDECREF(f);
      Py_XDECREF(self);
      return method;
    }
    case Kind::kFunction: {
      auto* f = reinterpret_cast<PyFunctionObject*>(n.object);
      PyObject* copy = PyFunction_NewWithQualName(f->func_code, f->func_globals, f->func_qualname);
      PyObject* closure = copy ? tuple_of(n.items.size()) : nullptr;
      bool good = closure && PyFunction_SetClosure(copy, closure) == 0;
      if (good && f->func_defaults) good = PyFunction_SetDefaults(copy, f->func_defaults) == 0;
      if (good && f->func_kwdefaults)
        good = PyFunction_SetKwDefaults(copy, f->func_kwdefaults) == 0;
      if (good && f->func_dict) good = PyObject_SetAttrString(copy, "__dict__", f->func_dict) == 0;
      Py_XDECREF(closure);
      if (!good) Py_CLEAR(copy);
      return copy;
    }
    case Kind::kObject: {
      auto* type = reinterpret_cast<PyTypeObject*>(n.object);
      PyTypeObject* base = native_base(type);
      const bool immutable = base == &PyTuple_Type || base == &PyFrozenSet_Type;
      PyObject* items = immutable ? tuple_of(static_cast<size_t>(n.index)) : nullptr;
      PyObject* args = immutable ? (items ? PyTuple_Pack(1, items) : nullptr) : PyTuple_New(0);
      Py_XDECREF(items);
      PyObject* object = args ? base->tp_new(type, args, nullptr) : nullptr;
      // An OrderedDict gets its order from __init__ of the base alone.
      if (object && base == &PyODict_Type && base->tp_init(object, args, nullptr) < 0)
        Py_CLEAR(object);
      Py_XDECREF(args);
      return object;
    }
    case Kind::kReduced: {
      PyObject* callable = make(n.items[0]);
      PyObject* args = callable ? make(n.items[1]) : nullptr;
      PyObject* object = args ? PyObject_Call(callable, args, nullptr) : nullptr;
      Py_XDECREF(callable);
      Py_XDECREF(args);
      return object;
    }
    default: break;
  }
  PyErr_SetString(PyExc_SystemError, "an unknown kind of recipe node");
  return nullptr;
}

bool Recipe::Run::fill(int node, PyObject* object) {
  const Node& n = recipe_.nodes_[static_cast<size_t>(node)];
  // Calls `store(item)` or `store(key, value)` with new objects.
  const auto each = [&](size_t from, size_t to, auto store) {
    for (size_t i = from; i < to; ++i) {
      PyObject* item = make(n.items[i]);
      const bool good = item && store(item);
      Py_XDECREF(item);
      if (!good) return false;
    }
    return true;
  };
  const auto pairs = [&](size_t from, size_t to, auto store) {
    for (size_t i = from; i + 1 < to; i += 2) {
      PyObject* key = make(n.items[i]);
      PyObject* value = key ? make(n.items[i + 1]) : nullptr;
      const bool good = value && store(key, value);
      Py_XDECREF(key);
      Py_XDECREF(value);
      if (!good) return false;
    }
    return true;
  };
  const auto append = [&](PyObject* x) { return PyList_Append(object, x) == 0; };
  const auto insert = [&](PyObject* x) { return PySet_Add(object, x) == 0; };
  const auto set_item = [&](PyObject* k, PyObject* v) {
    return (PyODict_Check(object) ? PyODict_SetItem(object, k, v) : PyDict_SetItem(object, k, v)) ==
           0;
  };
  switch (n.kind) {
    case Kind::kList: return each(0, n.items.size(), append);
    case Kind::kSet: return each(0, n.items.size(), insert);
    case Kind::kDict: return pairs(0, n.items.size(), set_item);
    case Kind::kCell:
      return each(0, n.items.size(), [&](PyObject* x) { return PyCell_Set(object, x) == 0; });
    case Kind::kObject: {
      const auto inside = static_cast<size_t>(n.index);
      bool good = true;
      if (PyList_Check(object)) good = each(0, inside, append);
      if (PySet_Check(object)) good = each(0, inside, insert);
      if (PyDict_Check(object)) good = pairs(0, inside, set_item);
      return good && pairs(inside, n.items.size(),
                           [&](PyObject* k, PyObject* v) { return set_attribute(object, k, v); });
    }
    case Kind::kReduced: {
      PyObject* state = make(n.items[2]);
      if (!state) return false;
      bool good = true;
      if (state != Py_None) {
        PyObject* r = PyObject_CallMethod(object, "__setstate__", "O", state);
        good = r != nullptr;
        Py_XDECREF(r);
      }
      Py_DECREF(state);
      if (!good) return false;
      PyObject *items = make(n.items[3]), *entries = make(n.items[4]);
      if (items && items != Py_None) {
        PyObject* r = PyObject_CallMethod(object, "extend", "O", items);
        good = r != nullptr;
        Py_XDECREF(r);
      }
      for (Py_ssize_t i = 0; good && entries && entries != Py_None && i < PyList_GET_SIZE(entries);
           ++i) {
        PyObject* pair = PyList_GET_ITEM(entries, i);
        good = PyObject_SetItem(object, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)) == 0;
      }
      Py_XDECREF(items);
      Py_XDECREF(entries);
      return good;
    }
    default: return true;
  }
}

}  // namespace fulmen::jit
