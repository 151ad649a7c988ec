// Programs in parts: see Note [Asking for a value].
#include <nanobind/stl/string.h>

#include <algorithm>

#include "bindings/bind.h"
#include "bindings/program_object.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::jit {

namespace nb = nanobind;
using interp::Prov;

namespace {

thread_local Acquisition* current_acquisition = nullptr;

bindings::Recorder* recorder_of(PyObject* tracer) {
  const nb::object recorder = nb::handle(tracer).attr("recorder");
  return nb::inst_ptr<bindings::Recorder>(recorder);
}

// Whether a part of the call gives one of the call's own inputs another layout or a history: the
// guards are made from what is there afterwards, and autograd has no way back.
bool changes_metadata(const Trace& trace, const std::vector<bool>& own) {
  for (const BoundSymbol* b : trace.body) {
    if (!b->symbol->has(kInplace)) continue;
    const Symbol* row = b->symbol->info->functional;
    bool changes = false;
    for_each_proxy(b->output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t) return;
      const TensorProxy* base = storage_of(t);
      const auto at = std::find(trace.inputs.begin(), trace.inputs.end(), base);
      if (at == trace.inputs.end() || !own[static_cast<size_t>(at - trace.inputs.begin())]) return;
      const bool gets_history = t->type.requires_grad && !base->type.requires_grad;
      changes |= gets_history || (row && row->has(kView));
    });
    if (changes) return true;
  }
  return false;
}

}  // namespace

Acquisition::Acquisition(PyObject* tracer, PyObject* compile, PyObject* ran, bool symbolic)
    : recorder_(recorder_of(tracer)),
      tracer_(Py_NewRef(tracer)),
      compile_(Py_NewRef(compile)),
      ran_(Py_NewRef(ran)),
      entry_(std::make_unique<Entry>()),
      symbolic_(symbolic) {
  entry_->ambient = bridge::ambient_state();
  outer_ = current_acquisition;
  current_acquisition = this;
}

Acquisition* Acquisition::current() { return current_acquisition; }

Acquisition::~Acquisition() {
  current_acquisition = outer_;
  modes_.restore();
  undo();
  undo_.restore();
  for (const auto& [slot, number] : numbers_) bindings::symbolic_number(number)->owner = nullptr;
  for (PyObject* number : items_) {
    bindings::symbolic_number(number)->owner = nullptr;
    Py_DECREF(number);
  }
  for (PyObject* o : kept_) Py_DECREF(o);
  for (const auto& [callable, args] : effects_) {
    Py_DECREF(callable);
    Py_DECREF(args);
  }
  for (PyObject* o : outputs_) Py_DECREF(o);
  for (const auto& [tensor, value] : grads_) Py_DECREF(value);
  for (PyObject* o : segment_outputs_) Py_DECREF(o);
  Py_XDECREF(refusal_);
  Py_DECREF(ran_);
  Py_DECREF(compile_);
  Py_DECREF(tracer_);
}

void Acquisition::add_segment_inputs(Segment& segment) {
  for (const nb::object& tensor : recorder_->lifted_tensors()) {
    const auto it = segment_source_.find(tensor.ptr());
    if (it != segment_source_.end()) {
      segment.inputs.push_back(~it->second);
      continue;
    }
    Prov* p = known(tensor.ptr());
    if (!p) p = constant(tensor.ptr(), "(tensor)");
    segment.inputs.push_back(static_cast<int>(p->id));
  }
}

bool Acquisition::ask(interp::Frame& frame, PyObject* proxy, const char* how, PyObject** answer) {
  set_source(frame);
  return ask(proxy, how, answer);
}

PyObject* Acquisition::ask_for(PyObject* proxy, const char* how) {
  PyObject* answer = nullptr;
  return ask(proxy, how, &answer) ? answer : nullptr;
}

bool Acquisition::ask(PyObject* proxy, const char* how, PyObject** answer) {
  const interp::OwnCode own(interp::current_context());
  try {
    if (recorder_->leaves_to_levels(&proxy, 1)) {
      throw Unsupported(cat(how, "() inside of a transform of torch.func, where the value of a ",
                            "tensor is not known", recorder_->where()));
    }
    if (compile_ == Py_None) {
      nb::object error =
          nb::module_::import_("fulmen.tracer").attr("value_needed")(how, recorder_->where());
      PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
      note_refusal();
      return false;
    }
    // What the rest of the program can still see; the tensor in question comes last.
    const std::vector<nb::object> live = bindings::live_tensor_proxies(recorder_->context());
    std::vector<nb::object> outputs;
    for (const nb::object& p : live) {
      if (!recorder_->tensor_of(p.ptr()) && p.ptr() != proxy) outputs.push_back(p);
    }
    for (PyObject* number : items_) {
      if (Py_REFCNT(number) > 1 && number != proxy && !asked_.contains(number))
        outputs.push_back(nb::borrow(number));
    }
    outputs.push_back(nb::borrow(proxy));
    nb::list list;
    for (const nb::object& p : outputs) list.append(p);
    Segment& s = entry_->segments.emplace_back();
    s.num_outputs = outputs.size();
    s.modes = segment_modes_;
    s.observe = how;
    add_segment_inputs(s);
    const bridge::NoTorchFunction plain;  // what follows is on real tensors
    const Trace trace = recorder_->finish(nb::tuple(list), "computation");
    const nb::object program = nb::handle(compile_)(trace);
    s.program = bindings::program_of(program.ptr());
    if (!s.program) internal_error("compile() returned no Program");
    s.check = bridge::make_input_check(s.program->trace(), {});
    s.effects = bridge::effects_of(s.program->trace());

    const bridge::Modes modes = bridge::Modes::current();
    const size_t first = segment_outputs_.size();
    const size_t ran = ran_ == Py_None ? 0 : static_cast<size_t>(PyTuple_GET_SIZE(ran_));
    if (first + outputs.size() <= ran) {
      for (size_t i = 0; i < outputs.size(); ++i)
        segment_outputs_.push_back(
            Py_NewRef(PyTuple_GET_ITEM(ran_, static_cast<Py_ssize_t>(first + i))));
    } else {
      std::vector<PyObject*> inputs;
      std::vector<bool> own;
      for (const nb::object& t : recorder_->lifted_tensors()) {
        const bindings::SymbolicNumber* number = bindings::symbolic_number(t.ptr());
        inputs.push_back(number ? number->value : t.ptr());
        own.push_back(!segment_source_.contains(t.ptr()));
      }
      if (changes_metadata(trace, own)) {
        throw Unsupported("a value is asked for after the metadata of an input has changed");
      }
      undo_.save(s.effects, inputs.data());
      segment_modes_.restore_autograd();
      const nb::object results =
          nb::steal(bridge::call_program(*s.program, inputs.data(), inputs.size()));
      modes.restore_autograd();
      if (!results.is_valid()) throw nb::python_error();
      for (nb::handle r : results) segment_outputs_.push_back(Py_NewRef(r.ptr()));
    }
    const nb::object seen = nb::steal(observe(how, segment_outputs_.back()));
    if (!seen.is_valid()) throw nb::python_error();
    s.observed = Py_NewRef(seen.ptr());

    // A new trace goes on from here.
    segment_modes_ = modes;
    std::vector<std::pair<nb::object, nb::object>> adopted;
    std::vector<nb::object> numbers;
    for (size_t i = 0; i < outputs.size(); ++i) {
      PyObject* tensor = segment_outputs_[first + i];
      if (bindings::SymbolicNumber* number = bindings::symbolic_number(outputs[i].ptr())) {
        Py_INCREF(tensor);
        Py_SETREF(number->value, tensor);
        segment_source_[outputs[i].ptr()] = static_cast<int>(first + i);
        numbers.push_back(outputs[i]);
      } else if (!recorder_->tensor_of(outputs[i].ptr())) {
        segment_source_.emplace(tensor, static_cast<int>(first + i));
        adopted.emplace_back(outputs[i], nb::borrow(tensor));
      }
    }
    for (const nb::object& p : live) {
      if (PyObject* tensor = recorder_->tensor_of(p.ptr()))
        adopted.emplace_back(p, nb::borrow(tensor));
    }
    nb::handle(tracer_).attr("restart")();
    recorder_ = recorder_of(tracer_);
    for (const auto& [p, tensor] : adopted) recorder_->adopt(p, tensor);
    for (const nb::object& number : numbers) recorder_->adopt_number(number);
    nb::handle(tracer_).attr("resume")();
    *answer = Py_NewRef(seen.ptr());
    return true;
  } catch (nb::python_error& e) {
    e.restore();
  } catch (...) {
    bindings::set_python_error_of_any(std::current_exception());
  }
  note_refusal();
  return false;
}

}  // namespace fulmen::jit
