// Numbers that the program does not know: see Note [Numbers].
#include <algorithm>
#include <cstring>

#include "bindings/bind.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "interp/protocol.h"
#include "jit/acquisition.h"
#include "jit/call_rules.h"
#include "ops/number.h"
#include "support/error.h"

namespace fulmen::jit {

namespace nb = nanobind;
using bindings::symbolic_number;
using bindings::SymbolicNumber;
using interp::Answer;
using interp::Args;
using interp::Frame;
using interp::Val;

namespace {

constexpr int kDepth = 4;  // of containers in which an operation looks for numbers

bool has_number(PyObject* o, int depth = kDepth) {
  if (symbolic_number(o)) return true;
  if (depth == 0) return false;
  if (PyTuple_Check(o) || PyList_Check(o)) {
    PyObject** items = PySequence_Fast_ITEMS(o);
    return std::any_of(items, items + Py_SIZE(o),
                       [&](PyObject* item) { return has_number(item, depth - 1); });
  }
  if (PySlice_Check(o)) {
    auto* s = reinterpret_cast<PySliceObject*>(o);
    return symbolic_number(s->start) || symbolic_number(s->stop) || symbolic_number(s->step);
  }
  if (!PyDict_CheckExact(o)) return false;
  PyObject *key = nullptr, *value = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(o, &at, &key, &value)) {
    if (has_number(value, depth - 1)) return true;
  }
  return false;
}

// The object with the values of the numbers in it. New reference; null with an error set.
PyObject* with_values(PyObject* o) {
  if (!has_number(o)) return Py_NewRef(o);
  if (symbolic_number(o)) return Py_XNewRef(bindings::known_number(o));
  if (PySlice_Check(o)) {
    auto* s = reinterpret_cast<PySliceObject*>(o);
    PyObject* const known[] = {bindings::known_number(s->start), bindings::known_number(s->stop),
                               bindings::known_number(s->step)};
    return known[0] && known[1] && known[2] ? PySlice_New(known[0], known[1], known[2]) : nullptr;
  }
  if (PyDict_Check(o)) {
    PyObject* copy = PyDict_New();
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t at = 0;
    while (copy && PyDict_Next(o, &at, &key, &value)) {
      PyObject* known = with_values(value);
      if (!known || PyDict_SetItem(copy, key, known) < 0) Py_CLEAR(copy);
      Py_XDECREF(known);
    }
    return copy;
  }
  const Py_ssize_t n = Py_SIZE(o);
  PyObject* list = PyList_New(n);
  for (Py_ssize_t i = 0; list && i < n; ++i) {
    PyObject* item = with_values(PySequence_Fast_ITEMS(o)[i]);
    if (!item) {
      Py_CLEAR(list);
    } else {
      PyList_SET_ITEM(list, i, item);
    }
  }
  if (!list || PyList_Check(o)) return list;
  PyObject* tuple = PyList_AsTuple(list);
  Py_DECREF(list);
  return tuple;
}

const char* module_name(PyObject* callable) {
  if (!PyCFunction_Check(callable)) return "";
  PyObject* module = reinterpret_cast<PyCFunctionObject*>(callable)->m_module;
  const char* name = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : "";
  return name ? name : "";
}

// Functions of numbers that give the same for the same numbers.
bool is_pure(PyObject* callable) {
  return callable == reinterpret_cast<PyObject*>(&PyFloat_Type) ||
         callable == reinterpret_cast<PyObject*>(&PyLong_Type) ||
         std::strcmp(module_name(callable), "math") == 0;
}

// Code in C that uses a number through its operators, or only keeps it.
bool takes_any_object(PyObject* callable) {
  const char* module = module_name(callable);
  if (std::strcmp(module, "builtins") == 0 || std::strcmp(module, "_operator") == 0) return true;
  PyTypeObject* type = nullptr;
  if (Py_IS_TYPE(callable, &PyMethodDescr_Type) || Py_IS_TYPE(callable, &PyWrapperDescr_Type)) {
    type = reinterpret_cast<PyDescrObject*>(callable)->d_type;
  } else if (PyCFunction_Check(callable) && PyCFunction_GET_SELF(callable)) {
    type = Py_TYPE(PyCFunction_GET_SELF(callable));
    if (PyType_Check(PyCFunction_GET_SELF(callable))) return true;  // __instancecheck__, mostly
  }
  return type == &PyList_Type || type == &PyDict_Type || type == &PySet_Type ||
         type == &PyTuple_Type || type == &PyBaseObject_Type || type == &PyType_Type;
}

}  // namespace

bool Acquisition::is_symbolic(PyObject* value) const { return symbolic_ && can_be_symbolic(value); }

// The parameter group of an optimizer, whose learning rate a schedule changes from step to step.
bool Acquisition::is_parameter_group(PyObject* object) {
  static PyObject* const names[] = {PyUnicode_InternFromString("params"),
                                    PyUnicode_InternFromString("lr")};
  return PyDict_CheckExact(object) && PyDict_Contains(object, names[0]) == 1 &&
         PyDict_Contains(object, names[1]) == 1;
}

bool Acquisition::can_be_symbolic(PyObject* value) {
  if (PyFloat_CheckExact(value)) return true;
  if (!PyLong_CheckExact(value)) return false;
  int overflow = 0;
  PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0;
}

PyObject* Acquisition::number_in(int slot, PyObject* value) {
  PyObject*& number = numbers_[slot];
  if (number) return number;
  entry_->guards.require(slot, Check::kType, reinterpret_cast<PyObject*>(Py_TYPE(value)));
  number = bindings::make_symbolic_number(value, this, slot);
  if (!number) {
    numbers_.erase(slot);
    return nullptr;
  }
  kept_.push_back(number);
  known_.emplace(number, node(slot, number));
  return number;
}

PyObject* Acquisition::compute(PyObject* function, PyObject* const* operands, size_t n) {
  if (std::any_of(operands, operands + n, [this](PyObject* o) { return is_item(o); }))
    return compute_item(function, operands, n);
  PyObject* values[2] = {nullptr, nullptr};
  for (size_t i = 0; i < n; ++i) {
    const SymbolicNumber* number = symbolic_number(operands[i]);
    values[i] = number ? number->value : operands[i];
  }
  PyObject* result = PyObject_Vectorcall(function, values, n, nullptr);
  if (!result || !(PyBool_Check(result) || can_be_symbolic(result))) {
    // An exception, or a number that is none of the trace.
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (size_t i = 0; i < n; ++i) {
      if (!bindings::known_number(operands[i])) PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
    return result;
  }
  int slots[] = {-1, -1};
  for (size_t i = 0; i < n; ++i) {
    const SymbolicNumber* number = symbolic_number(operands[i]);
    if (number && number->slot >= 0) {
      slots[i] = number->slot;
      continue;
    }
    PyObject* text = PyObject_Repr(values[i]);
    const char* label = text ? PyUnicode_AsUTF8(text) : nullptr;
    slots[i] = entry_->guards.constant(values[i], label ? label : "?");
    Py_XDECREF(text);
    PyErr_Clear();
  }
  const int slot = entry_->guards.compute(function, slots[0], slots[1]);
  if (PyBool_Check(result)) {
    entry_->guards.require(slot, Check::kIdentity, result);
    return result;
  }
  PyObject* number = number_in(slot, result);
  Py_DECREF(result);
  return Py_XNewRef(number);
}

PyObject* Acquisition::item_of(PyObject* tensor, std::string_view how) {
  if (recorder_->leaves_to_levels(&tensor, 1)) return nullptr;
  const DType dtype = as_tensor(bindings::tensor_proxy_state(tensor)->p)->type.dtype;
  if (how != "item" && how != (is_floating(dtype) ? "__float__" : "__int__")) return nullptr;
  try {
    const nb::object number =
        recorder_->record_symbol(ops::item, nb::make_tuple(nb::borrow(tensor)), nb::dict());
    return new_item(number);
  } catch (const Unsupported&) {
  } catch (nb::python_error& e) {
    e.restore();
  } catch (...) {
    bindings::set_python_error_of_any(std::current_exception());
  }
  return nullptr;
}

PyObject* Acquisition::new_item(nb::handle proxy) {
  const NumberProxy* n = as_number(bindings::proxy_of(proxy)->p);
  const nb::object stand_in = nb::steal(n->type == NumberType::kFloat ? PyFloat_FromDouble(1)
                                        : n->type == NumberType::kInt ? PyLong_FromLong(1)
                                                                      : Py_NewRef(Py_True));
  PyObject* number = bindings::make_symbolic_item(stand_in.ptr(), this, proxy.ptr());
  if (number) items_.push_back(Py_NewRef(number));
  return number;
}

bool Acquisition::is_item(PyObject* object) const {
  const SymbolicNumber* number = symbolic_number(object);
  return number && number->slot < 0 && number->owner && !asked_.contains(object);
}

PyObject* Acquisition::compute_item(PyObject* function, PyObject* const* operands, size_t n) {
  const auto is_float = [](PyObject* o) {
    const SymbolicNumber* number = symbolic_number(o);
    return PyFloat_Check(number ? number->value : o);
  };
  std::string_view name;
  if (PyCFunction_Check(function)) {
    name = reinterpret_cast<PyCFunctionObject*>(function)->m_ml->ml_name;
  } else if (n == 1 && PyType_Check(function)) {
    const bool same =
        is_float(operands[0]) == (function == reinterpret_cast<PyObject*>(&PyFloat_Type));
    name = same ? "pos" : "";
  }
  if (name == "pos" && n == 1) return Py_NewRef(operands[0]);
  const Symbol* row = ops::number_row(name);
  NumberType types[2] = {};
  for (size_t i = 0; i < n; ++i)
    types[i] = is_float(operands[i]) ? NumberType::kFloat : NumberType::kInt;
  if (row && row->info->schema.params.size() == n && ops::takes_types(*row, {types, n})) {
    nb::object args = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(n)));
    for (size_t i = 0; i < n; ++i)
      PyTuple_SET_ITEM(args.ptr(), static_cast<Py_ssize_t>(i), Py_NewRef(operands[i]));
    try {
      const bindings::TakesNumbers takes(recorder_);
      const nb::object result = nb::steal(
          new_item(recorder_->record_symbol(*row, nb::borrow<nb::tuple>(args), nb::dict())));
      if (!result.is_valid() || !PyBool_Check(symbolic_number(result.ptr())->value))
        return nb::object(result).release().ptr();
      // The program depends on what the comparison says, not on the number.
      return Py_XNewRef(bindings::known_number(result.ptr()));
    } catch (nb::python_error& e) {
      e.restore();
    } catch (...) {
      bindings::set_python_error_of_any(std::current_exception());
    }
    return nullptr;
  }
  for (size_t i = 0; i < n; ++i) {
    if (is_item(operands[i]) && !bindings::known_number(operands[i])) return nullptr;
  }
  return compute(function, operands, n);
}

bool Acquisition::needs_value(PyObject* object) {
  const SymbolicNumber* number = symbolic_number(object);
  if (number->slot < 0) {
    if (asked_.contains(object)) return true;
    PyObject* answer = nullptr;
    const bool good = ask(object, "item", &answer);
    Py_XDECREF(answer);
    if (good) asked_.insert(object);
    return good;
  }
  if (!settled_.insert(number->slot).second) return true;
  entry_->guards.require(number->slot, Check::kValue, number->value);
  const interp::OwnCode own(interp::current_context());
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  static PyObject* const source_suffix = bridge::resolve_torch_name("fulmen.tracer.source_suffix");
  PyObject* where = PyObject_CallNoArgs(source_suffix);
  PyObject* shown = PyObject_Repr(number->value);
  const char* place = where ? PyUnicode_AsUTF8(where) : nullptr;
  const char* text = shown ? PyUnicode_AsUTF8(shown) : nullptr;
  entry_->specialized.push_back(cat(entry_->guards.path(number->slot, entry_->argument_names),
                                    " == ", text ? text : "?", place ? place : ""));
  Py_XDECREF(where);
  Py_XDECREF(shown);
  PyErr_Restore(type, value, traceback);
  return true;
}

bool Acquisition::takes_number(PyObject* callable, size_t position, PyObject* name) const {
  const auto& overloads = bindings::overloads_of(callable);
  bool takes = false;
  for (const Symbol* symbol : overloads) {
    const Schema& schema = symbol->info->schema;
    size_t at = position;
    if (name) {
      const char* text = PyUnicode_AsUTF8(name);
      const int found = text ? schema.index(text) : -1;
      if (found < 0) continue;
      at = static_cast<size_t>(found);
    }
    if (at >= schema.params.size()) continue;
    const Param& p = schema.params[at];
    const bool number = !p.list && !p.varargs &&
                        (p.kind == ParamKind::kScalar || p.kind == ParamKind::kTensorOrScalar);
    if (!number && p.kind != ParamKind::kTensor) return false;
    takes = takes || number;
  }
  return takes;
}

bool Acquisition::settle_numbers(PyObject* callable, const Args& args,
                                 std::vector<PyObject*>* settled) {
  bool changed = false;
  for (Py_ssize_t i = 0; i < args.total(); ++i) changed = changed || has_number(args.objects[i]);
  if (!changed) return true;
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    PyObject* o = args.objects[i];
    PyObject* name = i < args.count ? nullptr : PyTuple_GET_ITEM(args.names, i - args.count);
    const bool keep =
        callable && symbolic_number(o) && takes_number(callable, static_cast<size_t>(i), name);
    PyObject* value = keep ? Py_NewRef(o) : with_values(o);
    if (!value) return false;
    kept_.push_back(value);
    settled->push_back(value);
  }
  return true;
}

Answer Acquisition::call_with_numbers(Frame& frame, PyObject* callable, const Args& args,
                                      Val* result) {
  const CallRule rule = call_target(callable).rule;
  if (rule == CallRule::kRow || rule == CallRule::kRefuse || rule == CallRule::kConstant ||
      (PyFunction_Check(callable) && rule == CallRule::kInterpret)) {
    return Answer::kNotHandled;
  }
  if (rule == CallRule::kInterpret) {
    bool direct = false, plain = args.names == nullptr;
    for (Py_ssize_t i = 0; i < args.total(); ++i) {
      PyObject* o = args.objects[i];
      const bool number = symbolic_number(o);
      direct = direct || number;
      plain = plain && (number || PyLong_CheckExact(o) || PyFloat_CheckExact(o));
    }
    if (!direct) return Answer::kNotHandled;
    if (callable == reinterpret_cast<PyObject*>(&PyType_Type) && args.total() == 1) {
      PyObject* value = symbolic_number(args.objects[0])->value;
      *result = {Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(value))), nullptr};
      return Answer::kDone;
    }
    if (plain && args.count <= 2 && is_pure(callable)) {
      *result = {compute(callable, args.objects, static_cast<size_t>(args.count)), nullptr};
      return result->o ? Answer::kDone : Answer::kError;
    }
    const bool in_c = PyCFunction_Check(callable) || Py_IS_TYPE(callable, &PyMethodDescr_Type) ||
                      Py_IS_TYPE(callable, &PyWrapperDescr_Type);
    if (!in_c || takes_any_object(callable)) return Answer::kNotHandled;
  }
  std::vector<PyObject*> values;
  if (!settle_numbers(nullptr, args, &values)) return Answer::kError;
  if (values.empty()) return Answer::kNotHandled;
  const Args known{values.data(), nullptr, args.count, args.names, false};
  return interp::call(frame, {callable, nullptr}, known, result) ? Answer::kDone : Answer::kError;
}

}  // namespace fulmen::jit
