#include "bridge/undo.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/SavedTensorHooks.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <unordered_set>

#include "bridge/alias_check.h"
#include "ir/proxy.h"
#include "ir/write_back.h"

namespace fulmen::bridge {

struct Undo::Saved {
  at::Tensor tensor, data;
  torch::autograd::Edge edge;
  bool requires_grad = false;
  at::Generator generator;  // defined: `data` is its state, and there is no tensor
};

namespace {

// Itself, or in a program that is a part of it.
bool draws_random(const BoundSymbol& b) {
  bool draws = b.symbol->has(kRandom);
  const BoundSymbol* const body[] = {&b};
  for_each_program(body, [&](const Subprogram& p) {
    for (const BoundSymbol* inner : p.body) draws |= inner->symbol->has(kRandom);
  });
  return draws;
}

}  // namespace

Effects effects_of(const Trace& trace) {
  Effects effects{AliasCheck(trace).written(), false};
  for (const BoundSymbol* b : trace.body) effects.draws |= draws_random(*b);
  return effects;
}

namespace {

// Whether it writes to an input; a program also writes to values of its own that die.
bool writes_to_input(const BoundSymbol& b, const Trace& trace) {
  bool found = false;
  for_each_written(b, [&](const Arg& a) {
    for_each_proxy(a, [&](const Proxy* p) {
      found = found || std::find(trace.inputs.begin(), trace.inputs.end(), storage_of(p)) !=
                           trace.inputs.end();
    });
  });
  return found;
}

}  // namespace

bool has_effect_before(const Trace& trace, const BoundSymbol* failed) {
  for (const BoundSymbol* b : trace.body) {
    if (b == failed && !b->symbol->has(kInplace)) return false;
    // What an opaque call does is not known.
    if (draws_random(*b) || b->symbol->has(kOpaque)) return true;
    if (writes_to_input(*b, trace)) return true;
    if (b == failed) return false;
  }
  return false;
}

bool saves_through_hooks() { return at::SavedTensorDefaultHooks::get_hooks().has_value(); }

Undo::Undo() = default;
Undo::~Undo() = default;
Undo::Undo(Undo&&) noexcept = default;
Undo& Undo::operator=(Undo&&) noexcept = default;

void Undo::save(const Effects& effects, PyObject* const* inputs) {
  const at::NoGradGuard no_grad;
  bool cuda = false;
  for (const size_t i : effects.written) {
    if (!THPVariable_Check(inputs[i])) continue;
    const at::Tensor& t = THPVariable_Unpack(inputs[i]);
    cuda |= t.is_cuda();
    Saved s{t, t.detach().clone(), {}, t.requires_grad(), {}};
    if (t.grad_fn()) s.edge = {t.grad_fn(), static_cast<uint32_t>(t.output_nr())};
    saved_.push_back(std::move(s));
  }
  if (!effects.draws) return;
  std::vector<at::Generator> generators{at::detail::getDefaultCPUGenerator()};
  if (cuda || at::globalContext().hasCUDA())
    generators.push_back(at::globalContext().defaultGenerator(at::Device(at::kCUDA, -1)));
  for (const at::Generator& g : generators) saved_.push_back({{}, g.get_state(), {}, false, g});
}

void Undo::restore() {
  const at::NoGradGuard no_grad;
  for (; !saved_.empty(); saved_.pop_back()) {
    Saved& s = saved_.back();
    if (s.generator.defined()) {
      s.generator.set_state(s.data);
      continue;
    }
    const c10::InferenceMode mode(s.tensor.is_inference());
    s.tensor.detach().copy_(s.data);
    if (s.tensor.grad_fn() == s.edge.function) continue;
    torch::autograd::AutogradMeta* meta =
        torch::autograd::impl::materialize_autograd_meta(s.tensor);
    meta->grad_fn_ = s.edge.function;
    meta->output_nr_ = s.edge.input_nr;
    if (!s.edge.function) meta->requires_grad_ = s.requires_grad;
  }
}

}  // namespace fulmen::bridge
