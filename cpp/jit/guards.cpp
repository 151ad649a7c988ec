#include "jit/guards.h"

#include <cstddef>
#include <cstring>
#include <unordered_set>

#include "bridge/bridge.h"
#include "support/cat.h"

extern "C" {
PyAPI_FUNC(PyObject**) _PyObject_GetDictPtr(PyObject*);
PyAPI_FUNC(PyObject*) _PyDict_GetItem_KnownHash(PyObject*, PyObject*, Py_hash_t);
PyAPI_FUNC(PyObject*) _PyType_Lookup(PyTypeObject*, PyObject*);
}

namespace fulmen::jit {
namespace {

#if PY_VERSION_HEX < 0x030D0000
constexpr bool kHasDictVersions = true;
const void* dict_version_place(PyObject* dict) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return &reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#pragma GCC diagnostic pop
}
#else
// Stores through inline values leave no trace in the dictionary: every guard runs at every call.
constexpr bool kHasDictVersions = false;
const void* dict_version_place(PyObject* dict) { return &dict->ob_type; }
#endif

// The version of a type, with the padding after it. It becomes 0 when the type changes.
const void* version_place(PyTypeObject* type) {
  static_assert(offsetof(PyTypeObject, tp_finalize) - offsetof(PyTypeObject, tp_version_tag) == 8);
  return &type->tp_version_tag;
}

unsigned type_version(PyTypeObject* type) {
  return PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG) ? type->tp_version_tag : 0;
}

// Tells {1} from {True}, which are equal.
uintptr_t types_of_members(PyObject* set) {
  uintptr_t sum = 0;
  PyObject* iterator = PyObject_GetIter(set);
  while (PyObject* member = iterator ? PyIter_Next(iterator) : nullptr) {
    sum += reinterpret_cast<uintptr_t>(Py_TYPE(member));
    Py_DECREF(member);
  }
  Py_XDECREF(iterator);
  PyErr_Clear();
  return sum;
}

}  // namespace

bool same_value(PyObject* a, PyObject* b) {
  if (a == b) return true;
  if (Py_TYPE(a) != Py_TYPE(b)) return false;
  // NaN equals itself here, and -0.0 is not 0.0.
  if (PyFloat_Check(a)) {
    const double x = PyFloat_AS_DOUBLE(a), y = PyFloat_AS_DOUBLE(b);
    return std::memcmp(&x, &y, sizeof x) == 0;
  }
  if (PyComplex_CheckExact(a)) {
    const Py_complex x = PyComplex_AsCComplex(a), y = PyComplex_AsCComplex(b);
    return std::memcmp(&x, &y, sizeof x) == 0;
  }
  if (PyTuple_CheckExact(a)) {
    const Py_ssize_t n = PyTuple_GET_SIZE(a);
    if (PyTuple_GET_SIZE(b) != n) return false;
    for (Py_ssize_t i = 0; i < n; ++i) {
      if (!same_value(PyTuple_GET_ITEM(a, i), PyTuple_GET_ITEM(b, i))) return false;
    }
    return true;
  }
  if (PySlice_Check(a)) {
    const auto *x = reinterpret_cast<PySliceObject*>(a), *y = reinterpret_cast<PySliceObject*>(b);
    return same_value(x->start, y->start) && same_value(x->stop, y->stop) &&
           same_value(x->step, y->step);
  }
  const int equal = PyObject_RichCompareBool(a, b, Py_EQ);
  if (equal < 0) PyErr_Clear();
  if (equal == 1 && PyAnySet_Check(a)) return types_of_members(a) == types_of_members(b);
  return equal == 1;
}

namespace {

bool has_keys(PyObject* dict, PyObject* keys) {
  if (!PyDict_Check(dict) || PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(keys)) return false;
  PyObject *key = nullptr, *value = nullptr;
  Py_ssize_t at = 0, i = 0;
  if (PyODict_Check(dict)) {  // its order is not that of its entries
    PyObject* iterator = PyObject_GetIter(dict);
    bool same = iterator != nullptr;
    while (same && i < PyTuple_GET_SIZE(keys) && (key = PyIter_Next(iterator))) {
      same = same_value(key, PyTuple_GET_ITEM(keys, i++));
      Py_DECREF(key);
    }
    Py_XDECREF(iterator);
    PyErr_Clear();
    return same && i == PyTuple_GET_SIZE(keys);
  }
  while (PyDict_Next(dict, &at, &key, &value)) {
    if (!same_value(key, PyTuple_GET_ITEM(keys, i++))) return false;
  }
  return true;
}

PyObject* defaults_of(PyObject* f) { return reinterpret_cast<PyFunctionObject*>(f)->func_defaults; }
PyObject* kwdefaults_of(PyObject* f) {
  return reinterpret_cast<PyFunctionObject*>(f)->func_kwdefaults;
}
PyObject* code_of(PyObject* f) { return reinterpret_cast<PyFunctionObject*>(f)->func_code; }

std::string repr(PyObject* o) {
  if (o && bridge::is_tensor(o)) return cat("<", Py_TYPE(o)->tp_name, ">");
  PyObject* text = o ? PyObject_Repr(o) : nullptr;
  const char* utf8 = text ? PyUnicode_AsUTF8(text) : nullptr;
  std::string s = utf8 ? utf8 : "?";
  Py_XDECREF(text);
  PyErr_Clear();
  return s;
}

std::string plain(PyObject* name) {
  const char* utf8 = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : nullptr;
  if (!utf8) PyErr_Clear();
  return utf8 ? utf8 : repr(name);
}

}  // namespace

std::string computation_text(PyObject* function, const std::string& first,
                             const std::string& second) {
  static constexpr std::pair<std::string_view, std::string_view> kSigns[] = {
      {"add", "+"}, {"sub", "-"},    {"mul", "*"},     {"truediv", "/"}, {"floordiv", "//"},
      {"mod", "%"}, {"pow", "**"},   {"lshift", "<<"}, {"rshift", ">>"}, {"and_", "&"},
      {"or_", "|"}, {"xor", "^"},    {"lt", "<"},      {"le", "<="},     {"eq", "=="},
      {"ne", "!="}, {"gt", ">"},     {"ge", ">="},     {"neg", "-"},     {"pos", "+"},
      {"inv", "~"}, {"invert", "~"}, {"abs", "abs"},   {"truth", "bool"}};
  PyObject* module = PyObject_GetAttrString(function, "__module__");
  PyObject* name = PyObject_GetAttrString(function, "__name__");
  const std::string from = module ? plain(module) : "", called = name ? plain(name) : "?";
  Py_XDECREF(module);
  Py_XDECREF(name);
  PyErr_Clear();
  const std::string arguments = cat("(", first, second.empty() ? "" : ", ", second, ")");
  if (from == "_operator") {
    for (const auto& [known, sign] : kSigns) {
      if (called != known) continue;
      if (!second.empty()) return cat("(", first, " ", sign, " ", second, ")");
      const bool word = sign == "abs" || sign == "bool";
      return word ? cat(sign, arguments) : cat("(", sign, first, ")");
    }
  }
  return from.empty() || from == "builtins" ? cat(called, arguments)
                                            : cat(from, ".", called, arguments);
}

Py_ssize_t container_length(PyObject* o) {
  if (PyList_Check(o)) return PyList_GET_SIZE(o);
  if (PyTuple_Check(o)) return PyTuple_GET_SIZE(o);
  if (PyDict_Check(o)) return PyDict_GET_SIZE(o);
  if (PyAnySet_Check(o)) return PySet_GET_SIZE(o);
  return -1;
}

PyObject* buffer_contents(PyObject* object) {
  Py_buffer view;
  if (!PyObject_CheckBuffer(object) || PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0) {
    PyErr_Clear();
    return nullptr;
  }
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, view.len);
  PyObject* shape = PyTuple_New(view.shape ? view.ndim : 0);
  for (int i = 0; shape && view.shape && i < view.ndim; ++i)
    PyTuple_SET_ITEM(shape, i, PyLong_FromSsize_t(view.shape[i]));
  PyObject* contents = nullptr;
  if (bytes && shape && PyBuffer_ToContiguous(PyBytes_AS_STRING(bytes), &view, view.len, 'C') == 0)
    contents = Py_BuildValue("(zOO)", view.format, shape, bytes);
  Py_XDECREF(bytes);
  Py_XDECREF(shape);
  PyBuffer_Release(&view);
  PyErr_Clear();
  return contents;
}

namespace {

Py_ssize_t any_length(PyObject* o) {
  const Py_ssize_t known = container_length(o);
  if (known >= 0) return known;
  const Py_ssize_t n = PyObject_Size(o);
  if (n < 0) PyErr_Clear();
  return n;
}

// Whether an epoch tells that the contents have changed.
bool has_epoch(PyObject* o) {
  return PyDict_Check(o) || PyList_Check(o) || PyTuple_Check(o) || PyCell_Check(o);
}

}  // namespace

GuardProgram::~GuardProgram() {
  if (!Py_IsInitialized()) return;
  for (const GuardInstruction& g : code_) {
    Py_XDECREF(g.key);
    Py_XDECREF(g.expect);
  }
  for (const Lookups& t : lookups_) {
    Py_XDECREF(t.mro);
    for (const auto& [name, found] : t.names) {
      Py_DECREF(name);
      Py_XDECREF(found);
    }
  }
  for (const Function& f : functions_) {
    Py_DECREF(f.function);
    Py_DECREF(f.code);
    Py_XDECREF(f.defaults);
    Py_XDECREF(f.kwdefaults);
  }
}

int GuardProgram::add(GuardInstruction g) {
  const bool fetches = g.fetch != Fetch::kSlot;
  const Identity id{static_cast<int>(g.fetch) << 8 | static_cast<int>(g.check), g.parent, g.key,
                    g.expect, g.aux};
  const auto [it, fresh] = memo_.emplace(id, fetches ? static_cast<int>(num_slots_) : g.parent);
  if (!fresh) return it->second;
  Py_XINCREF(g.key);
  Py_XINCREF(g.expect);
  g.dynamic = g.fetch == Fetch::kArg ||
              (g.parent >= 0 && code_[static_cast<size_t>(code_of_slot_[g.parent])].dynamic);
  if ((g.check == Check::kSame || g.check == Check::kNotSame ||
       (g.fetch == Fetch::kCompute && g.aux >= 0)) &&
      code_[static_cast<size_t>(code_of_slot_[g.aux])].dynamic) {
    g.dynamic = true;
  }
  code_.push_back(g);
  slot_of_code_.push_back(fetches ? static_cast<int32_t>(num_slots_) : -1);
  if (fetches) {
    code_of_slot_.push_back(static_cast<int32_t>(code_.size() - 1));
    ++num_slots_;
  }
  return it->second;
}

int GuardProgram::constant(PyObject* object, const std::string& label) {
  const int slot = add({Fetch::kConst, Check::kNone, false, -1, nullptr, 0, object, 0});
  labels_.emplace(slot, label);
  return slot;
}

int GuardProgram::argument(int64_t position) {
  return add({Fetch::kArg, Check::kNone, true, -1, nullptr, 0, nullptr, position});
}

int GuardProgram::fetch(Fetch how, int parent, PyObject* key, int64_t index) {
  Py_hash_t hash = 0;
  if (how == Fetch::kDictItem) {
    hash = PyObject_Hash(key);
    if (hash == -1) PyErr_Clear();
  }
  return add({how, Check::kNone, false, parent, key, hash, nullptr, index});
}

int GuardProgram::compute(PyObject* function, int first, int second) {
  return add({Fetch::kCompute, Check::kNone, false, first, function, 0, nullptr, second});
}

void GuardProgram::require(int slot, Check check, PyObject* expect, int64_t aux) {
  if (check == Check::kValue && PyLong_CheckExact(expect)) {
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(expect, &overflow);
    if (!overflow) {
      check = Check::kInt;
      aux = v;
      expect = nullptr;
    }
  }
  add({Fetch::kSlot, check, false, slot, nullptr, 0, expect, aux});
}

void GuardProgram::require_absent(int dict_slot, PyObject* key) {
  const Py_hash_t hash = PyObject_Hash(key);
  if (hash == -1) PyErr_Clear();
  add({Fetch::kSlot, Check::kAbsent, false, dict_slot, key, hash, nullptr, 0});
}

void GuardProgram::require_lookup(PyTypeObject* type, PyObject* name, PyObject* found) {
  auto [it, fresh] = lookups_of_.emplace(type, lookups_.size());
  if (fresh) {
    lookups_.push_back({type, Py_XNewRef(type->tp_mro), 0, {}});
    const int slot = constant(reinterpret_cast<PyObject*>(type), type->tp_name);
    require(slot, Check::kVersion, nullptr, static_cast<int64_t>(it->second));
  }
  auto& names = lookups_[it->second].names;
  for (const auto& [known, value] : names) {
    if (known == name) return;
  }
  Py_INCREF(name);
  Py_XINCREF(found);
  names.emplace_back(name, found);
  if (found && PyFunction_Check(found)) require_function(found);
}

void GuardProgram::require_function(PyObject* function) {
  for (const Function& f : functions_) {
    if (f.function == function) return;
  }
  Py_INCREF(function);
  functions_.push_back({function, Py_NewRef(code_of(function)), Py_XNewRef(defaults_of(function)),
                        Py_XNewRef(kwdefaults_of(function))});
  const int slot =
      constant(function, plain(reinterpret_cast<PyFunctionObject*>(function)->func_qualname));
  require(slot, Check::kCode, nullptr, static_cast<int64_t>(functions_.size() - 1));
}

bool GuardProgram::lookups_hold(Lookups& table) {
  const unsigned version = type_version(table.type);
  if (version != 0 && version == table.version) return true;
  if (table.type->tp_mro != table.mro) return false;
  for (const auto& [name, found] : table.names) {
    if (_PyType_Lookup(table.type, name) != found) return false;
  }
  table.version = type_version(table.type);
  return true;
}

bool GuardProgram::holds(const GuardInstruction& g, PyObject* o, const Values& values) {
  switch (g.check) {
    case Check::kNone: return true;
    case Check::kType: return reinterpret_cast<PyObject*>(Py_TYPE(o)) == g.expect;
    case Check::kIdentity: return o == g.expect;
    case Check::kSame: return o == values.slots[static_cast<size_t>(g.aux)];
    case Check::kNotSame: return o != values.slots[static_cast<size_t>(g.aux)];
    case Check::kInt: {
      if (!PyLong_CheckExact(o)) return false;
      int overflow = 0;
      return PyLong_AsLongLongAndOverflow(o, &overflow) == g.aux && !overflow;
    }
    case Check::kValue: return same_value(o, g.expect);
    case Check::kLength: return any_length(o) == g.aux;
    case Check::kNotEmpty: return container_length(o) > 0;
    case Check::kKeys: return has_keys(o, g.expect);
    case Check::kBuffer: {
      PyObject* contents = buffer_contents(o);
      const bool same = contents && same_value(contents, g.expect);
      Py_XDECREF(contents);
      return same;
    }
    case Check::kAbsent:
      return PyDict_Check(o) && !_PyDict_GetItem_KnownHash(o, g.key, g.hash) && !PyErr_Occurred();
    case Check::kVersion: return lookups_hold(lookups_[static_cast<size_t>(g.aux)]);
    case Check::kCode: {
      const Function& f = functions_[static_cast<size_t>(g.aux)];
      return code_of(o) == f.code && defaults_of(o) == f.defaults &&
             kwdefaults_of(o) == f.kwdefaults;
    }
  }
  return false;
}

bool GuardProgram::run(size_t at, PyObject* const* args, size_t n, Values& values) {
  const GuardInstruction& g = code_[at];
  PyObject* from = g.parent >= 0 ? values.slots[static_cast<size_t>(g.parent)] : nullptr;
  PyObject* o = nullptr;
  switch (g.fetch) {
    case Fetch::kSlot:
      // An object without __dict__ has no entry in it.
      if (g.check == Check::kAbsent && !from) return true;
      o = from;
      break;
    case Fetch::kConst: o = g.expect; break;
    case Fetch::kArg: o = static_cast<size_t>(g.aux) < n ? args[g.aux] : nullptr; break;
    case Fetch::kInstanceDict: {
      PyObject** place = from ? _PyObject_GetDictPtr(from) : nullptr;
      values.slots[static_cast<size_t>(slot_of_code_[at])] = place ? *place : nullptr;
      return true;  // what is looked up in it decides
    }
    case Fetch::kDictItem:
      o = from && PyDict_Check(from) ? _PyDict_GetItem_KnownHash(from, g.key, g.hash) : nullptr;
      break;
    case Fetch::kSequenceItem:
      if (from && PyList_Check(from)) {
        o = g.aux < PyList_GET_SIZE(from) ? PyList_GET_ITEM(from, g.aux) : nullptr;
      } else if (from && PyTuple_Check(from)) {
        o = g.aux < PyTuple_GET_SIZE(from) ? PyTuple_GET_ITEM(from, g.aux) : nullptr;
      } else if (from) {
        o = PySequence_GetItem(from, g.aux);
        if (o) values.owned.push_back(o);
      }
      break;
    case Fetch::kMappingItem:
      o = from ? PyObject_GetItem(from, g.key) : nullptr;
      if (o) values.owned.push_back(o);
      break;
    case Fetch::kCell: o = from && PyCell_Check(from) ? PyCell_GET(from) : nullptr; break;
    case Fetch::kAttr:
      o = from ? PyObject_GetAttr(from, g.key) : nullptr;
      if (o) values.owned.push_back(o);
      break;
    case Fetch::kType: o = from ? reinterpret_cast<PyObject*>(Py_TYPE(from)) : nullptr; break;
    case Fetch::kCompute: {
      PyObject* operands[] = {from,
                              g.aux >= 0 ? values.slots[static_cast<size_t>(g.aux)] : nullptr};
      o = PyObject_Vectorcall(g.key, operands, g.aux >= 0 ? 2 : 1, nullptr);
      if (o) values.owned.push_back(o);
      break;
    }
    case Fetch::kReferent:
      o = from && PyWeakref_Check(from) ? PyWeakref_GetObject(from) : nullptr;
      break;
  }
  if (!o) {
    PyErr_Clear();
    return false;
  }
  if (slot_of_code_[at] >= 0) values.slots[static_cast<size_t>(slot_of_code_[at])] = o;
  const bool good = holds(g, o, values);
  if (!good) PyErr_Clear();
  return good;
}

bool GuardProgram::unchanged() const {
  for (const Epoch& e : epochs_) {
    if (*e.place != e.contents) return false;
  }
  return true;
}

void GuardProgram::trust() {
  std::vector<bool> needed(num_slots_);
  for (const int32_t slot : wanted_) needed[static_cast<size_t>(slot)] = true;
  fetches_.clear();
  for (size_t at = code_.size(); at-- > 0;) {
    const GuardInstruction& g = code_[at];
    if (slot_of_code_[at] < 0 || !needed[static_cast<size_t>(slot_of_code_[at])]) continue;
    fetches_.insert(fetches_.begin(), static_cast<uint32_t>(at));
    if (g.parent >= 0) needed[static_cast<size_t>(g.parent)] = true;
    if (g.fetch == Fetch::kCompute && g.aux >= 0) needed[static_cast<size_t>(g.aux)] = true;
  }
  trusted_ = true;
}

int GuardProgram::run_always(PyObject* const* args, size_t n, Values& values, std::string* failed) {
  const uint64_t snapshot = snapshots_;
  for (size_t i = 0; i < always_.size(); ++i) {
    const uint32_t at = always_[i];
    const bool good = run(at, args, n, values);
    if (runs_python_ && snapshots_ != snapshot) return -1;
    if (good) continue;
    if (failed) *failed = text(code_[at], argument_names_);
    return 0;
  }
  return 1;
}

bool GuardProgram::run_all(PyObject* const* args, size_t n, Values& values, std::string* failed) {
  values.slots.resize_for_overwrite(num_slots_);
  std::fill(values.slots.begin(), values.slots.end(), nullptr);
  for (size_t at = 0; at < code_.size(); ++at) {
    if (run(at, args, n, values)) continue;
    if (failed) *failed = text(code_[at], argument_names_);
    return false;
  }
  return true;
}

bool GuardProgram::check(PyObject* const* args, size_t n, Values& values, std::string* failed) {
  if (trusted_ && !failed) {
    values.slots.resize_for_overwrite(num_slots_);
    for (const uint32_t at : fetches_) {
      if (!run(at, args, n, values)) return false;
    }
    return true;
  }
  while (has_snapshot_ && unchanged()) {
    values.slots.resize_for_overwrite(num_slots_);
    for (const int32_t slot : copied_)
      values.slots[static_cast<size_t>(slot)] = snapshot_[static_cast<size_t>(slot)];
    const int good = run_always(args, n, values, failed);
    if (good >= 0) return good > 0;
  }
  if (!run_all(args, n, values, failed)) return false;
  if (kHasDictVersions) take_snapshot(values.slots.data());
  // Python code that a guard ran may have changed what was looked at before it.
  return !runs_python_ || run_all(args, n, values, failed);
}

bool GuardProgram::check_inputs(PyObject* const* args, size_t n, Values& values,
                                PyObject** inputs) {
  if (has_snapshot_ && !trusted_ && unchanged()) {
    values.slots.resize_for_overwrite(num_slots_);
    for (const int32_t slot : needed_)
      values.slots[static_cast<size_t>(slot)] = snapshot_[static_cast<size_t>(slot)];
    std::copy(static_inputs_.begin(), static_inputs_.end(), inputs);
    const int good = run_always(args, n, values, nullptr);
    if (good >= 0) {
      for (const auto& [place, slot] : dynamic_inputs_)
        inputs[place] = values.slots[static_cast<size_t>(slot)];
      return good > 0;
    }
  }
  if (!check(args, n, values, nullptr)) return false;
  for (size_t i = 0; i < inputs_.size(); ++i)
    inputs[i] = values.slots[static_cast<size_t>(inputs_[i])];
  return true;
}

void GuardProgram::take_snapshot(PyObject* const* values) {
  epochs_.clear();
  always_.clear();
  runs_python_ = false;
  snapshot_.assign(num_slots_, nullptr);
  std::unordered_set<const void*> seen;
  const auto watch = [&](const void* place) {
    static_assert(sizeof(void*) == sizeof(uint64_t));
    const auto* word = static_cast<const uint64_t*>(place);
    if (seen.insert(place).second) epochs_.push_back({word, *word});
  };
  // A place is looked at only after all on the way to it, so that it still exists then.
  const auto watch_contents = [&](PyObject* o) {
    if (PyDict_Check(o)) watch(dict_version_place(o));
    if (PyList_Check(o)) {
      auto* list = reinterpret_cast<PyListObject*>(o);
      watch(&list->ob_base.ob_size);
      watch(&list->ob_item);
      for (Py_ssize_t i = 0; i < PyList_GET_SIZE(o); ++i) watch(&list->ob_item[i]);
    }
    if (PyCell_Check(o)) watch(&reinterpret_cast<PyCellObject*>(o)->ob_ref);
  };
  // What hangs below something that C code computes is looked at again each time.
  std::vector<bool> volatile_slot(num_slots_);
  for (size_t at = 0; at < code_.size(); ++at) {
    const GuardInstruction& g = code_[at];
    const int32_t slot = slot_of_code_[at];
    const bool computed = g.fetch == Fetch::kAttr || g.fetch == Fetch::kReferent ||
                          g.fetch == Fetch::kMappingItem || g.fetch == Fetch::kCompute ||
                          (g.fetch == Fetch::kSequenceItem && !has_epoch(values[g.parent]));
    runs_python_ |= (computed && g.fetch != Fetch::kCompute) ||
                    (g.check == Check::kValue && Py_TYPE(g.expect)->tp_flags & Py_TPFLAGS_HEAPTYPE);
    const bool is_volatile = g.dynamic || computed ||
                             (g.parent >= 0 && volatile_slot[static_cast<size_t>(g.parent)]) ||
                             ((g.check == Check::kSame || g.check == Check::kNotSame) &&
                              volatile_slot[static_cast<size_t>(g.aux)]);
    if (slot >= 0) {
      volatile_slot[static_cast<size_t>(slot)] = is_volatile;
      if (!is_volatile) snapshot_[static_cast<size_t>(slot)] = values[slot];
    }
    if (is_volatile) {
      always_.push_back(static_cast<uint32_t>(at));
      continue;
    }
    PyObject* from = g.parent >= 0 ? values[g.parent] : nullptr;
    if (g.check == Check::kCode) {
      auto* f = reinterpret_cast<PyFunctionObject*>(from);
      watch(&f->func_code);
      watch(&f->func_defaults);
      watch(&f->func_kwdefaults);
    } else if (g.check == Check::kVersion) {
      const Lookups& table = lookups_[static_cast<size_t>(g.aux)];
      if (table.version != 0 && table.version == type_version(table.type)) {
        watch(version_place(table.type));
      } else {
        always_.push_back(static_cast<uint32_t>(at));
      }
    } else if (g.check == Check::kType) {
      // Only to a class made in Python, or of a module, can another be assigned.
      if (Py_TYPE(from)->tp_flags & Py_TPFLAGS_HEAPTYPE || PyModule_Check(from))
        watch(&from->ob_type);
    } else if (g.fetch == Fetch::kInstanceDict) {
      if (PyObject** place = from ? _PyObject_GetDictPtr(from) : nullptr) watch(place);
    } else if (from && g.check != Check::kIdentity && g.check != Check::kSame &&
               g.check != Check::kNotSame) {
      watch_contents(from);
      // A set, a buffer and the order of an OrderedDict have no version.
      if (PyAnySet_Check(from) || g.check == Check::kBuffer ||
          (g.check == Check::kLength && !has_epoch(from)) ||
          (g.check == Check::kKeys && PyODict_Check(from))) {
        always_.push_back(static_cast<uint32_t>(at));
      }
    }
  }
  // Static slots that somebody reads after a check by epochs.
  std::vector<bool> copied(num_slots_);
  const auto copy = [&](int64_t slot) {
    if (slot >= 0 && !volatile_slot[static_cast<size_t>(slot)])
      copied[static_cast<size_t>(slot)] = true;
  };
  const auto list = [&](std::vector<int32_t>& slots) {
    slots.clear();
    for (size_t slot = 0; slot < num_slots_; ++slot) {
      if (copied[slot]) slots.push_back(static_cast<int32_t>(slot));
    }
  };
  for (const uint32_t at : always_) {
    const GuardInstruction& g = code_[at];
    copy(g.parent);
    if (g.check == Check::kSame || g.check == Check::kNotSame || g.fetch == Fetch::kCompute)
      copy(g.aux);
  }
  list(needed_);
  for (const int32_t slot : wanted_) copy(slot);
  list(copied_);
  static_inputs_.clear();
  dynamic_inputs_.clear();
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const int32_t slot = inputs_[i];
    static_inputs_.push_back(snapshot_[static_cast<size_t>(slot)]);
    if (volatile_slot[static_cast<size_t>(slot)])
      dynamic_inputs_.emplace_back(static_cast<uint32_t>(i), slot);
  }
  has_snapshot_ = true;
  ++snapshots_;
}

std::string GuardProgram::path(int slot, const std::vector<std::string>& names) const {
  const GuardInstruction& g = code_[static_cast<size_t>(code_of_slot_[static_cast<size_t>(slot)])];
  const auto parent = [&] { return path(g.parent, names); };
  switch (g.fetch) {
    case Fetch::kConst: return labels_.at(slot);
    case Fetch::kArg: {
      const auto i = static_cast<size_t>(g.aux);
      return i < names.size() ? names[i] : cat("args[", i, "]");
    }
    case Fetch::kInstanceDict: return cat(parent(), ".__dict__");
    case Fetch::kDictItem: {
      std::string from = parent();
      if (from.ends_with(".__dict__") && PyUnicode_Check(g.key))
        return cat(from.substr(0, from.size() - 9), ".", plain(g.key));
      return cat(from, "[", repr(g.key), "]");
    }
    case Fetch::kSequenceItem: return cat(parent(), "[", g.aux, "]");
    case Fetch::kMappingItem: return cat(parent(), "[", repr(g.key), "]");
    case Fetch::kCell: return cat(parent(), ".cell_contents");
    case Fetch::kAttr: return cat(parent(), ".", plain(g.key));
    case Fetch::kType: return cat("type(", parent(), ")");
    case Fetch::kCompute: {
      const std::string second = g.aux >= 0 ? path(static_cast<int>(g.aux), names) : "";
      return computation_text(g.key, parent(), second);
    }
    case Fetch::kReferent: return cat(parent(), "()");
    case Fetch::kSlot: break;
  }
  return "?";
}

std::string GuardProgram::text(const GuardInstruction& g,
                               const std::vector<std::string>& names) const {
  if (g.fetch != Fetch::kSlot) {
    for (size_t i = 0; i < code_.size(); ++i) {
      if (&code_[i] == &g) return cat(path(slot_of_code_[i], names), " exists");
    }
  }
  const std::string x = path(g.parent, names);
  switch (g.check) {
    case Check::kNone: return cat(x, " exists");
    case Check::kType:
      return cat("type(", x, ") is ", reinterpret_cast<PyTypeObject*>(g.expect)->tp_name);
    case Check::kIdentity: return cat(x, " is ", repr(g.expect));
    case Check::kSame: return cat(x, " is ", path(static_cast<int>(g.aux), names));
    case Check::kNotSame: return cat(x, " is not ", path(static_cast<int>(g.aux), names));
    case Check::kInt: return cat(x, " == ", g.aux);
    case Check::kValue: return cat(x, " == ", repr(g.expect));
    case Check::kNotEmpty: return cat("len(", x, ") > 0");
    case Check::kLength: return cat("len(", x, ") == ", g.aux);
    case Check::kKeys: return cat("tuple(", x, ") == ", repr(g.expect));
    case Check::kBuffer: return cat("the contents of ", x, " are unchanged");
    case Check::kAbsent: return cat(repr(g.key), " not in ", x);
    case Check::kCode: return cat(x, " has the same code and defaults");
    case Check::kVersion: {
      std::string list;
      for (const auto& [name, found] : lookups_[static_cast<size_t>(g.aux)].names)
        list += cat(list.empty() ? "" : ", ", plain(name));
      return cat("attributes of ", x, " are unchanged: ", list);
    }
  }
  return "?";
}

}  // namespace fulmen::jit
