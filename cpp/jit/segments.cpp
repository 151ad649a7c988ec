// Programs in parts: see Note [Asking for a value].
#include <nanobind/stl/string.h>

#include <algorithm>
#include <set>

#include "bindings/bind.h"
#include "bindings/program_object.h"
#include "bindings/tensor_proxy.h"
#include "bridge/bridge.h"
#include "jit/acquisition.h"
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

// For each input of a segment, whether running it may change the tensor.
std::vector<bool> changed_inputs(const Trace& trace) {
  std::set<const Proxy*> changed;
  for (const BoundSymbol* b : trace.body) {
    const bool opaque = b->symbol->has(kOpaque);
    if (!opaque && !b->symbol->has(kInplace)) continue;
    const auto& params = b->symbol->info->schema.params;
    for (size_t i = 0; i < b->args.size(); ++i) {
      if (!opaque && i < params.size() && !params[i].mutated) continue;
      for_each_proxy(b->args[i], [&](const Proxy* p) {
        for (const TensorProxy* t = as_tensor(p); t; t = t->alias_of) changed.insert(t);
      });
    }
  }
  std::vector<bool> result;
  for (const Proxy* p : trace.inputs) result.push_back(changed.contains(p));
  return result;
}

// History that a write gives to an input can't be undone where views of it have seen it.
bool gives_history(const Trace& trace) {
  for (const BoundSymbol* b : trace.body) {
    if (!b->symbol->has(kInplace)) continue;
    bool gives = false;
    for_each_proxy(b->output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (!t || !t->type.requires_grad) return;
      while (t->alias_of) t = t->alias_of;
      const auto at = std::find(trace.inputs.begin(), trace.inputs.end(), t);
      gives = gives || (at != trace.inputs.end());
    });
    if (gives) return true;
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
  undo();
  for (const auto& [slot, number] : numbers_) bindings::symbolic_number(number)->owner = nullptr;
  for (PyObject* o : kept_) Py_DECREF(o);
  for (const auto& [callable, args] : effects_) {
    Py_DECREF(callable);
    Py_DECREF(args);
  }
  for (PyObject* o : outputs_) Py_DECREF(o);
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
    outputs.push_back(nb::borrow(proxy));
    nb::list list;
    for (const nb::object& p : outputs) list.append(p);
    Segment& s = entry_->segments.emplace_back();
    s.num_outputs = outputs.size();
    s.observe = how;
    add_segment_inputs(s);
    const bridge::NoTorchFunction plain;  // what follows is on real tensors
    const Trace trace = recorder_->finish(nb::tuple(list), "computation");
    const nb::object program = nb::handle(compile_)(trace);
    s.program = bindings::program_of(program.ptr());
    if (!s.program) internal_error("compile() returned no Program");
    s.check = bridge::make_input_check(s.program->trace(), {});

    const size_t first = segment_outputs_.size();
    const size_t ran = ran_ == Py_None ? 0 : static_cast<size_t>(PyTuple_GET_SIZE(ran_));
    if (first + outputs.size() <= ran) {
      for (size_t i = 0; i < outputs.size(); ++i)
        segment_outputs_.push_back(
            Py_NewRef(PyTuple_GET_ITEM(ran_, static_cast<Py_ssize_t>(first + i))));
    } else {
      std::vector<PyObject*> inputs;
      for (const nb::object& t : recorder_->lifted_tensors()) {
        const bindings::SymbolicNumber* number = bindings::symbolic_number(t.ptr());
        inputs.push_back(number ? number->value : t.ptr());
      }
      if (gives_history(trace)) {
        throw Unsupported("a value is asked for after gradients depend on a write to an input");
      }
      nb::list kept;
      const std::vector<bool> changed = changed_inputs(trace);
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (changed[i]) kept.append(nb::handle(inputs[i]));
      }
      nb::handle(tracer_).attr("before_segment")(kept);
      const nb::object results =
          nb::steal(bridge::call_program(*s.program, inputs.data(), inputs.size()));
      if (!results.is_valid()) throw nb::python_error();
      nb::handle(tracer_).attr("after_segment")();
      for (nb::handle r : results) segment_outputs_.push_back(Py_NewRef(r.ptr()));
    }
    const nb::object seen = nb::steal(observe(how, segment_outputs_.back()));
    if (!seen.is_valid()) throw nb::python_error();
    s.observed = Py_NewRef(seen.ptr());

    // A new trace goes on from here.
    const bool grad_enabled = recorder_->grad_enabled();
    bridge::set_grad_enabled(grad_enabled);
    std::vector<std::pair<nb::object, nb::object>> adopted;
    for (size_t i = 0; i < outputs.size(); ++i) {
      PyObject* tensor = segment_outputs_[first + i];
      if (!recorder_->tensor_of(outputs[i].ptr())) {
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
    recorder_->set_grad_enabled(grad_enabled);
    for (const auto& [p, tensor] : adopted) recorder_->adopt(p, tensor);
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
