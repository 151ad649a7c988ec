#include "jit/entry.h"

#include <algorithm>
#include <cstring>

#include "support/cat.h"

namespace fulmen::jit {
namespace {

bool same_observation(PyObject* a, PyObject* b) {
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  if (PyFloat_Check(a)) {
    return std::memcmp(&reinterpret_cast<PyFloatObject*>(a)->ob_fval,
                       &reinterpret_cast<PyFloatObject*>(b)->ob_fval, sizeof(double)) == 0;
  }
  const int same = PyObject_RichCompareBool(a, b, Py_EQ);
  if (same < 0) PyErr_Clear();
  return same == 1;
}

bool set_contents(PyObject* target, PyObject* value) {
  if (PyList_Check(target)) return PyList_SetSlice(target, 0, PyList_GET_SIZE(target), value) == 0;
  if (PyDict_Check(target)) {
    PyDict_Clear(target);
    return PyDict_Update(target, value) == 0;
  }
  if (PySet_Check(target)) {
    if (PySet_Clear(target) < 0) return false;
    PyObject* r = PyObject_CallMethod(target, "update", "O", value);
    Py_XDECREF(r);
    return r != nullptr;
  }
  PyErr_SetString(PyExc_SystemError, "contents of an object that is no list, dict or set");
  return false;
}

bool apply(const Write& w, PyObject* target, PyObject* value) {
  switch (w.kind) {
    case Write::Kind::kSetAttr:
      if (PyType_Check(target)) return PyType_Type.tp_setattro(target, w.key, value) == 0;
      return PyObject_GenericSetAttr(target, w.key, value) == 0;
    case Write::Kind::kDeleteAttr:
      if (PyType_Check(target)) return PyType_Type.tp_setattro(target, w.key, nullptr) == 0;
      return PyObject_GenericSetAttr(target, w.key, nullptr) == 0;
    case Write::Kind::kSetItem:
      if (PyODict_Check(target)) return PyODict_SetItem(target, w.key, value) == 0;
      return PyDict_SetItem(target, w.key, value) == 0;
    case Write::Kind::kDeleteItem:
      if (PyODict_Check(target)) return PyODict_DelItem(target, w.key) == 0;
      return PyDict_DelItem(target, w.key) == 0;
    case Write::Kind::kContents: return set_contents(target, value);
    case Write::Kind::kExtend: {
      const Py_ssize_t n = PyList_GET_SIZE(target);
      return PyList_SetSlice(target, n, n, value) == 0;
    }
    case Write::Kind::kCall: {
      PyObject* r = PyObject_CallObject(w.key, target);
      Py_XDECREF(r);
      return r != nullptr;
    }
    case Write::Kind::kSetCell:
    case Write::Kind::kDeleteCell: return PyCell_Set(target, value) == 0;
  }
  return false;
}

}  // namespace

PyObject* observe(const char* method, PyObject* tensor) {
  if (!bridge::is_tensor(tensor)) return Py_NewRef(tensor);  // a number
  return PyObject_CallMethod(tensor, method, nullptr);
}

Entry::~Entry() {
  if (!Py_IsInitialized()) return;
  Py_XDECREF(kwnames);
  Py_XDECREF(refused);
  for (const Segment& s : segments) Py_XDECREF(s.observed);
  for (const Write& w : writes) Py_XDECREF(w.key);
}

bool Entry::takes(size_t n, PyObject* names) const {
  const Py_ssize_t count = names ? PyTuple_GET_SIZE(names) : 0;
  if (n != num_args || count != (kwnames ? PyTuple_GET_SIZE(kwnames) : 0)) return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *a = PyTuple_GET_ITEM(names, i), *b = PyTuple_GET_ITEM(kwnames, i);
    if (a != b && PyUnicode_Compare(a, b) != 0) return false;
  }
  return true;
}

int Entry::plain_output() const {
  return !refused && segments.size() == 1 && writes.empty() ? recipe.output_of(result) : -1;
}

bool PlainCall::accepts(PyObject* const* args, size_t n) {
  const Segment& s = entry_.segments.front();
  inputs_.resize_for_overwrite(s.inputs.size());
  return entry_.guards.check_inputs(args, n, values_, inputs_.data()) &&
         s.check->accepts(inputs_.data(), inputs_.size(), nullptr);
}

PyObject* call_plain(Entry& entry, PyObject* const* args, size_t n, int output,
                     bool* failed_clean) {
  PlainCall call(entry);
  if (!call.accepts(args, n)) return nullptr;
  PyObject* results = bridge::call_program(*entry.segments.front().program, call.inputs(),
                                           call.num_inputs(), failed_clean);
  if (!results) return nullptr;
  PyObject* result = Py_NewRef(PyTuple_GET_ITEM(results, output));
  Py_DECREF(results);
  return result;
}

Call::~Call() {
  for (PyObject* o : outputs_) Py_DECREF(o);
  for (PyObject* o : observed_) Py_DECREF(o);
}

void Call::adopt(const Entry& entry, const std::vector<PyObject*>& outputs) {
  for (PyObject* o : outputs) outputs_.push_back(Py_NewRef(o));
  ran_ = entry.segments.size() - 1;
  if (ran_ > 0) entry.segments.back().modes.restore_autograd();
}

bool Call::accepts(Entry& entry, std::string* failed) {
  values_.slots.resize(0, nullptr);
  if (!entry.guards.check(args_, num_args_, values_, failed)) return false;
  const Segment& first = entry.segments.front();
  SmallVec<PyObject*, 16> inputs;
  for (const int i : first.inputs) inputs.push_back(values_.slots[static_cast<size_t>(i)]);
  return first.check->accepts(inputs.data(), inputs.size(), failed);
}

bool Call::run(const Entry& entry) {
  for (; ran_ < entry.segments.size(); ++ran_) {
    const Segment& s = entry.segments[ran_];
    SmallVec<PyObject*, 16> inputs;
    for (const int i : s.inputs) {
      inputs.push_back(i >= 0 ? values_.slots[static_cast<size_t>(i)]
                              : outputs_[static_cast<size_t>(~i)]);
    }
    if (ran_ > 0 && !s.check->accepts(inputs.data(), inputs.size(), nullptr)) {
      rejected_.push_back(&entry);
      return false;
    }
    const bool last = ran_ + 1 == entry.segments.size();
    if (!last) undo_.save(s.effects, inputs.data());
    PyObject* results =
        bridge::call_program(*s.program, inputs.data(), inputs.size(), &failed_clean_);
    failed_clean_ |= !last && !bridge::saves_through_hooks();
    if (!results) return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(results); ++i)
      outputs_.push_back(Py_NewRef(PyTuple_GET_ITEM(results, i)));
    Py_DECREF(results);
    programs_.push_back(s.program.get());
    if (!s.observed) continue;
    PyObject* seen = observe(s.observe, outputs_.back());
    if (!seen) return false;
    observed_.push_back(seen);
    if (same_observation(seen, s.observed)) continue;
    ++ran_;
    rejected_.push_back(&entry);
    return false;
  }
  return true;
}

bool Call::undo() {
  if (!failed_clean_) return false;
  undo_.restore();
  return true;
}

bool Call::continues(const Entry& entry) const {
  if (entry.segments.size() <= ran_) return false;
  if (std::find(rejected_.begin(), rejected_.end(), &entry) != rejected_.end()) return false;
  for (size_t i = 0; i < ran_; ++i) {
    const Segment& s = entry.segments[i];
    if (s.program.get() != programs_[i] || !s.observed ||
        !same_observation(observed_[i], s.observed)) {
      return false;
    }
  }
  return true;
}

PyObject* Call::finish(const Entry& entry) {
  // The epilogue may drop the last reference to what a slot holds.
  if (!entry.writes.empty()) {
    for (const int32_t slot : entry.recipe.slots())
      values_.owned.push_back(Py_NewRef(values_.slots[static_cast<size_t>(slot)]));
  }
  Recipe::Run run(entry.recipe, outputs_, {values_.slots.data(), values_.slots.size()});
  // All objects are made before the first is stored: a failure leaves everything as it was.
  PyObject* result = run.make(entry.result);
  std::vector<std::pair<PyObject*, PyObject*>> ready;
  bool good = result != nullptr;
  for (const Write& w : entry.writes) {
    if (!good) break;
    PyObject* target = run.make(w.target);
    PyObject* value = target && w.value >= 0 ? run.make(w.value) : nullptr;
    good = target && (value || w.value < 0);
    ready.emplace_back(target, value);
  }
  for (size_t i = 0; good && i < ready.size(); ++i)
    good = apply(entry.writes[i], ready[i].first, ready[i].second);
  for (const auto& [target, value] : ready) {
    Py_XDECREF(target);
    Py_XDECREF(value);
  }
  if (!good) Py_CLEAR(result);
  return result;
}

}  // namespace fulmen::jit
