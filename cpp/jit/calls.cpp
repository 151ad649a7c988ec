// What trace mode does with calls: operations are recorded, everything else is followed.
#include <cctype>
#include <cstring>
#include <unordered_map>

#include "bindings/bind.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "interp/protocol.h"
#include "jit/acquisition.h"
#include "jit/call_rules.h"
#include "jit/kinds.h"
#include "jit/operators.h"
#include "py/private_api.h"
#include "support/error.h"

namespace fulmen::jit {

namespace nb = nanobind;
using interp::Answer;
using interp::Args;
using interp::Frame;
using interp::Prov;
using interp::Val;

namespace {

bool has_proxy(PyObject* o, int depth = 2) {
  if (bindings::tensor_proxy_state(o)) return true;
  if (depth == 0) return false;
  if (PyTuple_CheckExact(o) || PyList_CheckExact(o)) {
    for (Py_ssize_t i = 0; i < Py_SIZE(o); ++i) {
      if (has_proxy(PyTuple_CheckExact(o) ? PyTuple_GET_ITEM(o, i) : PyList_GET_ITEM(o, i),
                    depth - 1)) {
        return true;
      }
    }
  }
  return false;
}

bool has_proxy(const Args& args) {
  for (Py_ssize_t i = 0; i < args.total(); ++i) {
    if (has_proxy(args.objects[i])) return true;
  }
  return false;
}

// The method by which a call asks for the value of a tensor; null: it does not.
const char* question(PyObject* callable, const Args& args) {
  if (args.total() != 1 || !bindings::tensor_proxy_state(args.objects[0])) return nullptr;
  static const auto* methods = [] {
    auto* table = new std::unordered_map<PyObject*, const char*>{
        {reinterpret_cast<PyObject*>(&PyBool_Type), "__bool__"},
        {reinterpret_cast<PyObject*>(&PyLong_Type), "__int__"},
        {reinterpret_cast<PyObject*>(&PyFloat_Type), "__float__"}};
    const nb::object tensor = nb::module_::import_("torch").attr("Tensor");
    for (const char* name :
         {"__bool__", "__int__", "__float__", "__index__", "__complex__", "item", "tolist"}) {
      table->emplace(nb::object(tensor.attr(name)).release().ptr(), name);
    }
    return table;
  }();
  const auto it = methods->find(callable);
  return it == methods->end() ? nullptr : it->second;
}

nb::tuple positional(const Args& args) {
  nb::object t = nb::steal(PyTuple_New(args.count));
  for (Py_ssize_t i = 0; i < args.count; ++i)
    PyTuple_SET_ITEM(t.ptr(), i, Py_NewRef(args.objects[i]));
  return nb::borrow<nb::tuple>(t);
}

nb::dict named(const Args& args) {
  nb::dict d;
  for (Py_ssize_t i = 0; i < args.named(); ++i) {
    if (PyDict_SetItem(d.ptr(), PyTuple_GET_ITEM(args.names, i), args.objects[args.count + i]) < 0)
      throw nb::python_error();
  }
  return d;
}

// `fn._modules['0'].weight` → `0_weight`, and so on: a name in Python.
std::string identifier(std::string_view path) {
  std::string name;
  for (size_t i = 0; i < path.size(); ++i) {
    for (const std::string_view dull : {"fn.", "_modules", "_parameters", "_buffers"}) {
      if (path.substr(i).starts_with(dull)) {
        i += dull.size();
        break;
      }
    }
    if (i >= path.size()) break;
    const char c = path[i];
    if (std::isalnum(static_cast<unsigned char>(c))) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (!name.empty() && name.back() == '_') name.pop_back();
  if (name.empty()) return "tensor";
  return std::isdigit(static_cast<unsigned char>(name[0])) ? "p" + name : name;
}

// Function.apply of a class derived from torch.autograd.Function.
bool is_autograd_apply(PyObject* callable) {
  if (!PyCFunction_Check(callable) || !PyCFunction_GET_SELF(callable)) return false;
  const PyMethodDef* def = reinterpret_cast<PyCFunctionObject*>(callable)->m_ml;
  if (std::strcmp(def->ml_name, "apply") != 0) return false;
  static auto* base =
      reinterpret_cast<PyTypeObject*>(bridge::resolve_torch_name("torch._C._FunctionBase"));
  PyObject* self = PyCFunction_GET_SELF(callable);
  return base && PyType_Check(self) &&
         PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(self), base);
}

// A tensor in the result of an operation whose size only the run decides; null if there is none.
PyObject* unknown_size(PyObject* result) {
  if (const bindings::PyProxy* state = bindings::tensor_proxy_state(result)) {
    for (const Dim d : as_tensor(state->p)->type.shape) {
      if (!d.is_concrete()) return result;
    }
    return nullptr;
  }
  if (!PyTuple_Check(result) && !PyList_Check(result)) return nullptr;
  for (Py_ssize_t i = 0; i < Py_SIZE(result); ++i) {
    PyObject* item =
        PyTuple_Check(result) ? PyTuple_GET_ITEM(result, i) : PyList_GET_ITEM(result, i);
    if (PyObject* found = unknown_size(item)) return found;
  }
  return nullptr;
}

// The rule of the method that a bound builtin was made from: `queue.popleft`, kept in a variable.
CallTarget bound_builtin_target(PyObject* callable) {
  PyObject* self = PyCFunction_Check(callable) ? PyCFunction_GET_SELF(callable) : nullptr;
  if (!self || PyModule_Check(self) || PyType_Check(self)) return {};
  PyObject* name =
      PyUnicode_FromString(reinterpret_cast<PyCFunctionObject*>(callable)->m_ml->ml_name);
  PyObject* method = name ? _PyType_Lookup(Py_TYPE(self), name) : nullptr;
  if (!name) PyErr_Clear();
  Py_XDECREF(name);
  return method ? call_target(method) : CallTarget{};
}

// operator.attrgetter(...)
bool is_attribute_getter(PyObject* o) {
  static auto* type =
      reinterpret_cast<PyTypeObject*>(bridge::resolve_torch_name("operator.attrgetter"));
  return Py_IS_TYPE(o, type);
}

bool get_path(Frame& frame, Val object, PyObject* path, Val* result) {
  const nb::object names = nb::handle(path).attr("split")(".");
  *result = {Py_NewRef(object.o), object.p};
  for (nb::handle part : names) {
    PyObject* name = Py_NewRef(part.ptr());
    PyUnicode_InternInPlace(&name);
    const Val from = *result;
    const bool found = interp::load_attr(frame, from, name, result);
    Py_DECREF(name);
    Py_DECREF(from.o);
    if (!found) return false;
  }
  return true;
}

Answer get_attributes(Frame& frame, PyObject* getter, Val object, Val* result) {
  const nb::object paths = nb::handle(getter).attr("__reduce__")()[1];
  if (nb::len(paths) == 1) {
    return get_path(frame, object, nb::object(paths[0]).ptr(), result) ? Answer::kDone
                                                                       : Answer::kError;
  }
  nb::object all = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(nb::len(paths))));
  Py_ssize_t i = 0;
  for (nb::handle path : paths) {
    Val value;
    if (!get_path(frame, object, path.ptr(), &value)) return Answer::kError;
    PyTuple_SET_ITEM(all.ptr(), i++, value.o);
  }
  *result = {all.release().ptr(), nullptr};
  return Answer::kDone;
}

}  // namespace

bool Acquisition::follows(PyCodeObject* code) {
  static const std::string own = [] {
    PyObject* file = bridge::resolve_torch_name("fulmen.__file__");
    const char* text = file ? PyUnicode_AsUTF8(file) : nullptr;
    std::string folder = text ? text : "";
    Py_XDECREF(file);
    return folder.substr(0, folder.rfind('/') + 1);
  }();
  const char* file = PyUnicode_AsUTF8(code->co_filename);
  return !file || own.empty() || !std::string_view(file).starts_with(own);
}

void Acquisition::set_source(Frame& frame) {
  // The innermost frame outside PyTorch is what the user knows. The outermost has no code.
  const auto file = [](const Frame* at) -> std::string_view {
    const char* text = PyUnicode_AsUTF8(at->code_object()->co_filename);
    return text ? text : "";
  };
  const Frame* f = &frame;
  while (f && f->code && file(f).find("/torch/") != std::string_view::npos) f = f->caller;
  if (!f || !f->code) f = &frame;
  if (!f->code) return;
  const char* name = PyUnicode_AsUTF8(f->code_object()->co_name);
  const auto offset = f->code->insts[f->pc].unit * sizeof(_Py_CODEUNIT);
  const int line = PyCode_Addr2Line(f->code_object(), static_cast<int>(offset));
  recorder_->set_source(file(f), line, name ? name : "?");
}

void Acquisition::note_refusal() {
  if (refusal_ || !PyErr_Occurred()) return;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  static PyObject* classes =
      Py_BuildValue("(NN)", bridge::resolve_torch_name("fulmen.errors.Unsupported"),
                    bridge::resolve_torch_name("fulmen.errors.DataDependentError"));
  if (value && classes && PyErr_GivenExceptionMatches(value, classes)) refusal_ = Py_NewRef(value);
  PyErr_Restore(type, value, traceback);
}

bool Acquisition::refuse(PyObject* callable) {
  static PyObject* const refusal = bridge::resolve_torch_name("fulmen.sharp_edges.refusal");
  const interp::OwnCode own(interp::current_context());
  PyErr_Clear();
  PyObject* error = refusal ? PyObject_CallOneArg(refusal, callable) : nullptr;
  if (error) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
  Py_XDECREF(error);
  note_refusal();
  return false;
}

bool Acquisition::refuse(const std::string& what) {
  PyObject* text = PyUnicode_FromStringAndSize(what.data(), static_cast<Py_ssize_t>(what.size()));
  if (text) refuse(text);
  Py_XDECREF(text);
  return false;
}

Answer Acquisition::plan_effect(PyObject* planner, PyObject* callable, const Args& args,
                                Val* result) {
  const interp::OwnCode own(interp::current_context());
  PyObject* plan = PyObject_CallFunctionObjArgs(planner, callable, positional(args).ptr(),
                                                named(args).ptr(), tracer_, nullptr);
  if (!plan) {
    note_refusal();
    return Answer::kError;
  }
  *result = {Py_NewRef(Py_None), nullptr};
  if (PyTuple_Check(plan)) {
    effects_.emplace_back(Py_NewRef(PyTuple_GET_ITEM(plan, 0)),
                          Py_NewRef(PyTuple_GET_ITEM(plan, 1)));
  } else if (plan == Py_NotImplemented) {
    refuse(callable);
    Py_CLEAR(result->o);
  }
  Py_DECREF(plan);
  return result->o ? Answer::kDone : Answer::kError;
}

Answer Acquisition::call_tracer(PyObject* callable, Frame& frame, const Args& given, Val* result) {
  static PyObject* call_traced = bridge::resolve_torch_name("fulmen.tracer.call_traced");
  static PyObject* record_call = bridge::resolve_torch_name("fulmen.fallback.record_call");
  if (!call_traced || !record_call) return Answer::kError;
  set_source(frame);
  if (!pin_foreign(given)) return Answer::kError;
  std::vector<PyObject*> settled;
  if (has_numbers() && !settle_numbers(nullptr, given, &settled)) return Answer::kError;
  const Args args =
      settled.empty() ? given : Args{settled.data(), nullptr, given.count, given.names, false};
  look_at_operands(given);
  const interp::OwnCode own(interp::current_context());
  const bridge::WithoutMode outside;
  PyObject* object =
      PyObject_CallFunctionObjArgs(is_autograd_apply(callable) ? record_call : call_traced, tracer_,
                                   callable, positional(args).ptr(), named(args).ptr(), nullptr);
  if (!object) {
    note_refusal();
    return Answer::kError;
  }
  *result = {object, known(object)};
  return to_proxy(result) ? settle(frame, result) : Answer::kError;
}

// The rest of the program goes on with real sizes: see Note [Asking for a value].
Answer Acquisition::settle(Frame& frame, Val* result) {
  PyObject* tensor = compile_ == Py_None ? nullptr : unknown_size(result->o);
  if (!tensor) return Answer::kDone;
  PyObject* answer = nullptr;
  const bool good = ask(frame, tensor, "size", &answer);
  Py_XDECREF(answer);
  if (!good) Py_CLEAR(result->o);
  return good ? Answer::kDone : Answer::kError;
}

Answer Acquisition::record(PyObject* callable, PyObject* callee, Frame& frame, const Args& given,
                           Val* result) {
  if (recorder_->leaves_to_levels(given.objects, static_cast<size_t>(given.total())))
    return call_tracer(callable, frame, given, result);
  set_source(frame);
  if (!pin_foreign(given)) return Answer::kError;
  look_at_operands(given);
  Args args = given;
  std::vector<PyObject*> settled;
  if (has_numbers()) {
    if (!settle_numbers(callable, given, &settled)) return Answer::kError;
    if (!settled.empty()) args = {settled.data(), nullptr, given.count, given.names, false};
    for (PyObject* o : settled) {
      if (const bindings::SymbolicNumber* n = bindings::symbolic_number(o); n && n->slot >= 0)
        recorder_->name_tensor(o, identifier(entry_->guards.path(n->slot, entry_->argument_names)));
    }
  }
  try {
    nb::object object;
    {
      const bindings::TakesNumbers takes(settled.empty() ? nullptr : recorder_);
      object =
          recorder_->record(callable, args.objects, static_cast<size_t>(args.count), args.names);
    }
    if (PyTuple_CheckExact(object.ptr())) {  // max() and its like name their results
      const interp::OwnCode own(interp::current_context());
      static PyObject* name_fields = bridge::resolve_torch_name("fulmen.tracer.with_field_names");
      object = nb::handle(name_fields)(nb::handle(callable), object);
    }
    *result = {object.release().ptr(), nullptr};
    return settle(frame, result);
  } catch (const Unsupported&) {
    // PyTorch's own Python code is followed where no row takes the call.
    if (callable == callee && PyFunction_Check(callable)) return Answer::kNotHandled;
    return call_tracer(callable, frame, args, result);
  } catch (nb::python_error& e) {
    e.restore();
  } catch (...) {
    bindings::set_python_error_of_any(std::current_exception());
  }
  return Answer::kError;
}

Answer Acquisition::call(Frame& frame, Val callee, const Args& args, Val* result) {
  PyObject* callable = callee.o;
  CallTarget target = call_target(callable);
  while (target.rule == CallRule::kSame) {
    callable = target.replacement;
    target = call_target(callable);
  }
  if (has_numbers()) {
    const Answer answer = call_with_numbers(frame, callable, args, result);
    if (answer != Answer::kNotHandled) return answer;
  }
  if (target.rule == CallRule::kInterpret &&
      bound_builtin_target(callable).rule == CallRule::kRefuse) {
    target.rule = CallRule::kRefuse;
  }
  if (Prov* p = source(callee); p && is_partial(callable)) look_inside_partial(callable, p);
  if (is_attribute_getter(callable) && args.total() == 1 && args.count == 1)
    return get_attributes(frame, callable, args.at(0), result);
  const Args* use = &args;
  Args with_self;
  std::vector<PyObject*> objects;
  // A builtin that is bound to a proxy: the unbound method and its first argument.
  if (PyCFunction_Check(callable) && PyCFunction_GET_SELF(callable) &&
      bindings::tensor_proxy_state(PyCFunction_GET_SELF(callable))) {
    PyObject* self = PyCFunction_GET_SELF(callable);
    PyObject* unbound =
        PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(self)->tp_base),
                               reinterpret_cast<PyCFunctionObject*>(callable)->m_ml->ml_name);
    if (!unbound) return Answer::kError;
    callable = unbound;
    Py_DECREF(unbound);  // its type keeps it
    objects.push_back(self);
    objects.insert(objects.end(), args.objects, args.objects + args.total());
    with_self = {objects.data(), nullptr, args.count + 1, args.names, false};
    use = &with_self;
    target = call_target(callable);
    if (target.rule == CallRule::kInterpret) target.rule = CallRule::kTorch;
  }
  if (const char* how = question(callable, *use)) {
    set_source(frame);
    PyObject* answer = item_of(use->objects[0], how);
    if (!answer && (PyErr_Occurred() || !ask(frame, use->objects[0], how, &answer)))
      return Answer::kError;
    *result = {answer, nullptr};
    return Answer::kDone;
  }
  switch (target.rule) {
    case CallRule::kRow: return record(callable, callee.o, frame, *use, result);
    case CallRule::kCreate: return call_tracer(callable, frame, *use, result);
    case CallRule::kTorch:
      return has_proxy(*use) ? call_tracer(callable, frame, *use, result) : Answer::kNotHandled;
    case CallRule::kConstant:
      *result = {Py_NewRef(target.replacement), nullptr};
      return Answer::kDone;
    case CallRule::kNative: {
      if (!before_opaque(frame, callee, args)) return Answer::kError;
      const interp::OwnCode own(interp::current_context());
      PyObject* object =
          PyObject_Vectorcall(callable, args.objects, static_cast<size_t>(args.count), args.names);
      if (!object) {
        note_refusal();
        return Answer::kError;
      }
      *result = {object, nullptr};
      return after_opaque(frame, callee, args, result) ? Answer::kDone : Answer::kError;
    }
    case CallRule::kModule: {
      const Answer answer = module_attribute(*use, result);
      if (answer != Answer::kNotHandled) return answer;
      break;
    }
    case CallRule::kRefuse: refuse(callable); return Answer::kError;
    case CallRule::kEffect: return plan_effect(target.replacement, callable, *use, result);
    case CallRule::kSame:
    case CallRule::kInterpret: break;
  }
  if (callable != callee.o && use == &args)  // another function in its place
    return interp::call(frame, {callable, nullptr}, args, result) ? Answer::kDone : Answer::kError;
  PyTypeObject* type = Py_TYPE(callable);
  if (type->tp_flags & Py_TPFLAGS_HEAPTYPE && source(callee)) {
    static PyObject* const dunder_call = PyUnicode_InternFromString("__call__");
    entry_->guards.require_lookup(type, dunder_call, _PyType_Lookup(type, dunder_call));
  }
  if (is_autograd_apply(callable) && has_proxy(args))
    return call_tracer(callable, frame, args, result);
  // A step of an iterator that is older than the call can't be undone, nor told by a guard.
  for (Py_ssize_t i = 0; !PyFunction_Check(callable) && i < args.total(); ++i) {
    if (!PyIter_Check(args.objects[i]) || !known(args.objects[i])) continue;
    refuse("giving an iterator from outside of the call to code in C");
    return Answer::kError;
  }
  // type(x) of a proxy is what eager shows.
  if (callable == reinterpret_cast<PyObject*>(&PyType_Type) && args.total() == 1 &&
      bindings::tensor_proxy_state(args.objects[0])) {
    PyObject* tensor = recorder_->tensor_of(args.objects[0]);
    PyTypeObject* shown = tensor ? Py_TYPE(tensor) : Py_TYPE(args.objects[0])->tp_base;
    *result = {Py_NewRef(reinterpret_cast<PyObject*>(shown)), nullptr};
    return Answer::kDone;
  }
  return Answer::kNotHandled;
}

// The number of items before the call; -1 for what is no list, tuple, dict or set.
Py_ssize_t Acquisition::original_length(PyObject* container) const {
  Py_ssize_t n = container_length(container);
  if (n >= 0 && PyDict_Check(container) && written_.contains(container)) {
    PyObject* original = original_dict(container);
    if (original) n = PyDict_GET_SIZE(original);
    Py_XDECREF(original);
  }
  return n;
}

bool Acquisition::sized(Frame& frame, Val container) {
  const Py_ssize_t n = original_length(container.o);
  Prov* p = n >= 0 ? source(container) : nullptr;
  if (n < 0 || appended_.contains(container.o)) {
    return contents(frame, container);
  } else if (p && !rewritten_.contains(container.o)) {
    entry_->guards.require(static_cast<int>(p->id), Check::kLength, nullptr, n);
  }
  return true;
}

int Acquisition::truth(Frame& frame, Val value) {
  if (!bindings::tensor_proxy_state(value.o)) {
    // Whether a container is empty, not what is in it.
    if (is_foreign(value.o)) return refuse_foreign(value.o), -1;
    const Py_ssize_t n = original_length(value.o);
    Prov* p = n >= 0 ? source(value) : nullptr;
    if (p && !rewritten_.contains(value.o)) {
      if (appended_.contains(value.o)) look_inside(value.o, p, 1);
      entry_->guards.require(static_cast<int>(p->id), n ? Check::kNotEmpty : Check::kLength);
    }
    if (n < 0) look_at(value, 1);
    return -2;
  }
  PyObject* answer = nullptr;
  if (!ask(frame, value.o, "__bool__", &answer)) return -1;
  const int truth = PyObject_IsTrue(answer);
  Py_DECREF(answer);
  return truth;
}

Answer Acquisition::operate(Frame& frame, int op, Val a, Val b, Val* result) {
  const bool first = bindings::tensor_proxy_state(a.o);
  const int depth = op >= 100 ? kOpaqueDepth : 1;  // a comparison looks at all
  const bool native = !first && !(b.o && bindings::tensor_proxy_state(b.o));
  for (const Val& v : {a, b}) {
    if (!v.o) continue;
    if (!is_foreign(v.o)) {
      look_at(v, depth);
    } else if (native) {
      return refuse_foreign(v.o), Answer::kError;
    }
  }
  if (native) {
    if ((op == 100 + Py_EQ || op == 100 + Py_NE) && compares_by_identity(a.o))
      identity(frame, a, b);
    if (is_inplace_operator(op)) mutate(frame, a, nullptr);
    return Answer::kNotHandled;
  }
  PyObject* method = operator_method(op, !first);
  if (!method) return Answer::kNotHandled;
  PyObject* objects[] = {first ? a.o : b.o, first ? b.o : a.o};
  return record(method, nullptr, frame, {objects, nullptr, b.o ? 2 : 1, nullptr, false}, result);
}

PyObject* Acquisition::proxy_of(PyObject* tensor) {
  try {
    if (const Prov* p = known(tensor)) {
      recorder_->name_tensor(
          tensor, identifier(entry_->guards.path(static_cast<int>(p->id), entry_->argument_names)));
    }
    return recorder_->input_for(tensor).ptr();  // the recorder holds it
  } catch (nb::python_error& e) {
    e.restore();
  } catch (...) {
    bindings::set_python_error_of_any(std::current_exception());
  }
  note_refusal();
  return nullptr;
}

}  // namespace fulmen::jit
