// Side effects: done, logged, undone, and left as the entry's epilogue. See Note [Do and undo].
#include "bindings/bind.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
#include "py/private_api.h"

namespace fulmen::jit {

using interp::Prov;
using interp::Val;

namespace {

PyObject* attribute_of(PyObject* object, PyObject* name) {
  if (PyType_Check(object)) {
    return PyDict_GetItemWithError(reinterpret_cast<PyTypeObject*>(object)->tp_dict, name);
  }
  PyObject** place = _PyObject_GetDictPtr(object);
  if (place && *place) {
    if (PyObject* value = PyDict_GetItemWithError(*place, name)) return value;
  }
  // A slot; what the class has under the name is not the object's.
  PyObject* found = _PyType_Lookup(Py_TYPE(object), name);
  if (!found || !Py_TYPE(found)->tp_descr_set) return nullptr;
  PyObject* value = PyObject_GenericGetAttr(object, name);
  if (!value) {
    PyErr_Clear();
    return nullptr;
  }
  Py_DECREF(value);
  return Py_REFCNT(value) > 0 ? value : nullptr;
}

// What a store replaces, borrowed; null if nothing is there.
PyObject* current_value(interp::Write kind, PyObject* target, PyObject* key) {
  PyObject* value = nullptr;
  switch (kind) {
    case interp::Write::kGlobal:
    case interp::Write::kName:
    case interp::Write::kItem:
      value = PyDict_Check(target) ? PyDict_GetItemWithError(target, key) : nullptr;
      break;
    case interp::Write::kCell: value = PyCell_GET(target); break;
    case interp::Write::kAttr: value = attribute_of(target, key); break;
  }
  if (!value) PyErr_Clear();
  return value;
}

PyObject* copy_contents(PyObject* container) {
  if (PyList_Check(container)) return PyList_GetSlice(container, 0, PyList_GET_SIZE(container));
  if (PyDict_Check(container)) return PyDict_Copy(container);
  if (PySet_Check(container)) return PySet_New(container);
  return nullptr;
}

void restore_contents(PyObject* container, PyObject* copy) {
  if (PyList_Check(container)) {
    PyList_SetSlice(container, 0, PyList_GET_SIZE(container), copy);
  } else if (PyODict_Check(container)) {
    PyObject* r = PyObject_CallMethod(container, "clear", nullptr);
    Py_XDECREF(r);
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t at = 0;
    while (PyDict_Next(copy, &at, &key, &value)) PyODict_SetItem(container, key, value);
  } else if (PyDict_Check(container)) {
    PyDict_Clear(container);
    PyDict_Update(container, copy);
  } else if (PySet_Check(container)) {
    PySet_Clear(container);
    PyObject* r = PyObject_CallMethod(container, "update", "O", copy);
    Py_XDECREF(r);
  }
}

void restore(interp::Write kind, PyObject* target, PyObject* key, PyObject* old) {
  switch (kind) {
    case interp::Write::kGlobal:
    case interp::Write::kName:
    case interp::Write::kItem:
      if (old) {
        PyODict_Check(target) ? PyODict_SetItem(target, key, old)
                              : PyDict_SetItem(target, key, old);
      } else if (PyDict_Contains(target, key) == 1) {
        PyODict_Check(target) ? PyODict_DelItem(target, key) : PyDict_DelItem(target, key);
      }
      break;
    case interp::Write::kCell: PyCell_Set(target, old); break;
    case interp::Write::kAttr:
      if (!old && !current_value(kind, target, key)) break;
      if (PyType_Check(target)) {
        PyType_Type.tp_setattro(target, key, old);
      } else {
        PyObject_GenericSetAttr(target, key, old);
      }
      break;
  }
  PyErr_Clear();
}

}  // namespace

// Methods of C that change what the interpreter also changes: containers and attributes. True if
// nothing else of the arguments is looked at.
bool Acquisition::store_natively(interp::Frame& frame, PyObject* callee, const interp::Args& args) {
  PyObject* container = nullptr;
  const char* name = nullptr;
  Py_ssize_t first = 0;  // index of the first argument after the container
  if (Py_IS_TYPE(callee, &PyMethodDescr_Type) && args.count > 0) {
    name = reinterpret_cast<PyMethodDescrObject*>(callee)->d_method->ml_name;
    container = args.objects[0];
    first = 1;
  } else if (Py_IS_TYPE(callee, &PyWrapperDescr_Type) && args.count > 0) {
    name = reinterpret_cast<PyWrapperDescrObject*>(callee)->d_base->name;
    container = args.objects[0];
    first = 1;
  } else if (PyCFunction_Check(callee) && PyCFunction_GET_SELF(callee)) {
    name = reinterpret_cast<PyCFunctionObject*>(callee)->m_ml->ml_name;
    container = PyCFunction_GET_SELF(callee);
  } else if (Py_IS_TYPE(callee, &_PyMethodWrapper_Type)) {
    PyObject* self = PyObject_GetAttrString(callee, "__self__");
    PyObject* text = PyObject_GetAttrString(callee, "__name__");
    name = text ? PyUnicode_AsUTF8(text) : nullptr;
    container = self;
    Py_XDECREF(self);  // the wrapper holds it
    Py_XDECREF(text);
  }
  if (!name || !container) return false;
  const std::string_view method = name;
  if (method == "__setattr__" || method == "__delattr__") {
    const bool set = method == "__setattr__";
    if (args.count - first == (set ? 2 : 1)) {
      write(frame, interp::Write::kAttr, {container, nullptr}, args.objects[first],
            set ? args.at(first + 1) : Val{});
    }
    return true;
  }
  if (container_length(container) < 0 || PyTuple_Check(container)) return false;
  Prov* p = known(container);
  if (!p) return false;
  if (method == "append" && PyList_CheckExact(container) && !looked_inside_.contains(container) &&
      !rewritten_.contains(container)) {
    if (appended_.emplace(container, PyList_GET_SIZE(container)).second) {
      stores_.push_back({interp::Write::kItem, false, true, PyList_GET_SIZE(container),
                         Py_NewRef(container), nullptr, nullptr});
    }
    return true;
  }
  if (PyDict_Check(container) && method == "__setitem__" && args.count - first == 2) {
    write(frame, interp::Write::kItem, {container, p}, args.objects[first], args.at(first + 1));
    return true;
  }
  static const std::unordered_set<std::string_view> kChanging = {"append",
                                                                 "extend",
                                                                 "insert",
                                                                 "remove",
                                                                 "pop",
                                                                 "clear",
                                                                 "sort",
                                                                 "reverse",
                                                                 "update",
                                                                 "setdefault",
                                                                 "popitem",
                                                                 "add",
                                                                 "discard",
                                                                 "intersection_update",
                                                                 "difference_update",
                                                                 "symmetric_difference_update",
                                                                 "move_to_end",
                                                                 "__setitem__",
                                                                 "__delitem__",
                                                                 "__iadd__",
                                                                 "__imul__",
                                                                 "__ior__",
                                                                 "__iand__",
                                                                 "__isub__",
                                                                 "__ixor__"};
  if (kChanging.contains(method)) mutate(frame, {container, p}, callee);
  return false;
}

bool Acquisition::write(interp::Frame& frame, interp::Write kind, Val target, PyObject* key,
                        Val value) {
  if (key && !(key = bindings::known_number(key))) return false;
  if (!source(target)) {
    // Globals are there before every call; other targets without a source were made by this one.
    if (kind != interp::Write::kGlobal) return true;
    constant(target.o, "globals()");
  }
  if (bindings::tensor_proxy_state(target.o)) return true;
  const bool item = kind == interp::Write::kItem && !PyDict_Check(target.o);
  // Taking an entry out and putting it back changes the order of a dictionary.
  if (item || (kind == interp::Write::kItem && !value.o)) return mutate(frame, target, nullptr);
  PyObject* id = kind == interp::Write::kCell ? target.o : key;
  if (!written_[target.o].insert(id).second || rewritten_.contains(target.o)) return true;
  kept_.push_back(Py_NewRef(id));
  PyObject* old = current_value(kind, target.o, key);
  stores_.push_back({kind, false, false, 0, Py_NewRef(target.o), Py_XNewRef(key), Py_XNewRef(old)});
  return true;
}

PyObject* Acquisition::original_dict(PyObject* dict) const {
  PyObject* copy = PyDict_Copy(dict);
  for (auto s = stores_.rbegin(); copy && s != stores_.rend(); ++s) {
    if (s->target == dict && !s->contents) restore(s->kind, copy, s->key, s->old);
  }
  return copy;
}

bool Acquisition::mutate(interp::Frame&, Val container, PyObject*) {
  Prov* p = source(container);
  if (!p || rewritten_.contains(container.o)) return true;
  PyObject* copy = copy_contents(container.o);
  if (!copy) {
    PyErr_Clear();
    return !is_foreign(container.o) || refuse_foreign(container.o);
  }
  const auto appended = appended_.find(container.o);
  if (appended != appended_.end())
    PyList_SetSlice(copy, appended->second, PyList_GET_SIZE(copy), nullptr);
  look_inside(container.o, p, 1);
  rewritten_.insert(container.o);
  stores_.push_back({interp::Write::kItem, true, false, 0, Py_NewRef(container.o), nullptr, copy});
  return true;
}

// How a recipe refers to an object that was there before the call; -1: it was not.
int Acquisition::known_node(PyObject* o) {
  Recipe& recipe = entry_->recipe;
  if (bindings::PyProxy* state = bindings::proxy_of(nanobind::handle(o))) {
    const auto first = static_cast<int>(segment_outputs_.size());
    if (PyObject* tensor = recorder_->tensor_of(o)) {
      const auto earlier = segment_source_.find(tensor);
      if (earlier != segment_source_.end()) return recipe.output(earlier->second);
      Prov* p = known(tensor);
      if (!p) p = constant(tensor, "(tensor)");
      return recipe.slot(static_cast<int>(p->id));
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (bindings::proxy_of(nanobind::handle(outputs_[i]))->p == state->p && outputs_[i] == o) {
        return recipe.output(first + static_cast<int>(i));
      }
    }
    outputs_.push_back(Py_NewRef(o));
    return recipe.output(first + static_cast<int>(outputs_.size() - 1));
  }
  if (Prov* p = known(o)) return recipe.slot(static_cast<int>(p->id));
  return -1;
}

bool Acquisition::make_writes() {
  const Recipe::Known known_object = [this](PyObject* o) { return known_node(o); };
  Recipe& recipe = entry_->recipe;
  for (const Store& s : stores_) {
    Prov* target = known(s.target);
    if (!target) continue;
    const int target_node = recipe.slot(static_cast<int>(target->id));
    if (s.appended && !rewritten_.contains(s.target)) {
      PyObject* added = PyList_GetSlice(s.target, s.length, PyList_GET_SIZE(s.target));
      const int value = added ? recipe.add(added, known_object) : -1;
      Py_XDECREF(added);
      if (value < 0) return false;
      entry_->writes.push_back({Write::Kind::kExtend, target_node, nullptr, value});
      continue;
    }
    if (s.contents || s.appended) {
      PyObject* now = copy_contents(s.target);
      if (!now) return false;
      const int value = recipe.add(now, known_object);
      Py_DECREF(now);
      if (value < 0) return false;
      entry_->writes.push_back({Write::Kind::kContents, target_node, nullptr, value});
      continue;
    }
    if (rewritten_.contains(s.target)) continue;  // its whole contents are written
    PyObject* now = current_value(s.kind, s.target, s.key);
    if (now == s.old) continue;
    Write w{Write::Kind::kSetItem, target_node, Py_XNewRef(s.key), -1};
    switch (s.kind) {
      case interp::Write::kGlobal:
      case interp::Write::kName:
      case interp::Write::kItem:
        w.kind = now ? Write::Kind::kSetItem : Write::Kind::kDeleteItem;
        break;
      case interp::Write::kCell:
        w.kind = now ? Write::Kind::kSetCell : Write::Kind::kDeleteCell;
        break;
      case interp::Write::kAttr:
        w.kind = now ? Write::Kind::kSetAttr : Write::Kind::kDeleteAttr;
        break;
    }
    if (now) {
      w.value = recipe.add(now, known_object);
      if (w.value < 0) return false;
    }
    entry_->writes.push_back(w);
  }
  static PyObject* const grad = PyUnicode_InternFromString("grad");
  for (const auto& [tensor, value] : grads_) {
    Write w{Write::Kind::kSetAttr, recipe.slot(static_cast<int>(known(tensor)->id)),
            Py_NewRef(grad), -1};
    entry_->writes.push_back(w);
    const int node = recipe.add(value, known_object);
    if (node < 0) return false;
    entry_->writes.back().value = node;
  }
  for (const auto& [callable, args] : effects_) {
    const int node = recipe.add(args, known_object);
    if (node < 0) return false;
    entry_->writes.push_back({Write::Kind::kCall, node, Py_NewRef(callable), -1});
  }
  return true;
}

void Acquisition::undo() {
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  while (!stores_.empty()) {
    const Store s = stores_.back();
    stores_.pop_back();
    if (s.appended) {
      PyList_SetSlice(s.target, s.length, PyList_GET_SIZE(s.target), nullptr);
    } else if (s.contents) {
      restore_contents(s.target, s.old);
    } else {
      restore(s.kind, s.target, s.key, s.old);
    }
    PyErr_Clear();
    Py_DECREF(s.target);
    Py_XDECREF(s.key);
    Py_XDECREF(s.old);
  }
  PyErr_Restore(type, value, traceback);
}

bool Acquisition::finish(PyObject* result, Trace* trace) {
  bool good = result != nullptr;
  if (good) {
    entry_->result = entry_->recipe.add(result, [this](PyObject* o) { return known_node(o); });
    good = entry_->result >= 0 && make_writes();
  }
  undo();
  if (!good) return false;
  if (!modes_.same_autocast(bridge::Modes::current())) {
    bindings::set_python_error(
        std::make_exception_ptr(Unsupported("the call leaves torch.autocast in another state")));
    return false;
  }
  if (recorder_->leaves_to_levels(outputs_.data(), outputs_.size())) {
    bindings::set_python_error(std::make_exception_ptr(
        Unsupported("a value of a transform of torch.func is still in use after the transform")));
    return false;
  }
  nanobind::object outputs = nanobind::steal(PyTuple_New(static_cast<Py_ssize_t>(outputs_.size())));
  for (size_t i = 0; i < outputs_.size(); ++i)
    PyTuple_SET_ITEM(outputs.ptr(), static_cast<Py_ssize_t>(i), Py_NewRef(outputs_[i]));
  *trace = recorder_->finish(outputs, "computation");
  Segment& s = entry_->segments.emplace_back();
  s.num_outputs = outputs_.size();
  s.modes = segment_modes_;
  add_segment_inputs(s);
  return true;
}

bool Acquisition::finish_refused(Trace* trace) {
  if (!entry_->segments.empty()) return false;
  undo();
  *trace = recorder_->finish(nanobind::tuple(), "computation");
  Segment& s = entry_->segments.emplace_back();
  s.modes = segment_modes_;
  add_segment_inputs(s);
  return true;
}

}  // namespace fulmen::jit
