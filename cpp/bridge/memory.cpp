#include "bridge/memory.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "analysis/cost.h"
#include "analysis/memory.h"
#include "bridge/autograd_region.h"
#include "ops/control.h"
#include "passes/autodiff.h"
#include "passes/rematerialize.h"
#include "support/cat.h"

namespace fulmen::bridge {
namespace {

using Proxies = std::unordered_set<const Proxy*>;

bool is_loss(const TensorProxy* t) { return t->type.requires_grad && t->type.ndim() == 0; }

// The values that get a gradient: losses, and what later bound symbols differentiate.
Proxies differentiated(const Trace& trace) {
  Proxies found;
  bool any_loss = false;
  for_each_proxy(trace.output, [&](const Proxy* p) {
    any_loss = any_loss || (as_tensor(p) && is_loss(as_tensor(p)));
  });
  for_each_proxy(trace.output, [&](const Proxy* p) {
    if (as_tensor(p) && (!any_loss || is_loss(as_tensor(p)))) found.insert(p);
  });
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    bool wanted = false;
    for_each_proxy((*it)->output, [&](const Proxy* p) { wanted = wanted || found.contains(p); });
    if (!wanted) continue;
    for (const Arg& a : (*it)->args) for_each_proxy(a, [&](const Proxy* p) { found.insert(p); });
  }
  return found;
}

// The gradients of `region`'s inputs are added to `grads`.
void run_backward(const BoundSymbol& region, const Proxies& differentiated, MemoryUse& use,
                  std::unordered_map<const Proxy*, std::vector<const Proxy*>>& grads,
                  const exec::Compilation& compilation) {
  const Subprogram& primal = *region.arg("primal").program();
  passes::GradRequest request;
  for (const TensorProxy* t : passes::differentiable_results(region.output))
    request.given.push_back(differentiated.contains(t));
  std::vector<const Proxy*> saved;
  for (const Arg& s : primal.output.items()[1].items()) saved.push_back(s.proxy());
  const auto backward = passes::region_backward(primal, request, saved);
  if (!backward) return;
  exec::ClaimReport report;
  const Trace program = executable(backward->trace, Inputs::kConsumed, compilation, report);
  const std::unordered_set<const Proxy*> read(program.inputs.begin(), program.inputs.end());
  for (size_t i = backward->num_saved; i < program.inputs.size(); ++i) use.hold(program.inputs[i]);
  for (const Proxy* p : saved) {
    if (!read.contains(p)) use.drop(p);
  }
  use.run(program.inputs, program.body, program.output, true);
  for (size_t i = 0; i < primal.inputs.size(); ++i) {
    const Arg& grad = program.output.items()[i];
    if (grad.is_proxy()) grads[primal.inputs[i]].push_back(grad.proxy());
  }
}

}  // namespace

std::vector<MemoryStage> predicted_memory(const Trace& trace,
                                          const exec::Compilation& compilation) {
  MemoryUse use;
  for (const Proxy* p : trace.inputs) use.ignore(p);
  use.run(trace.inputs, trace.body, trace.output, false);
  std::vector<MemoryStage> stages{{"forward", use.peak(), use.now()}};
  // A program with a backward() in it leaves no graph behind.
  const bool whole_step =
      std::any_of(trace.body.begin(), trace.body.end(),
                  [](const BoundSymbol* b) { return b->symbol == &ops::check_leaves; });
  if (whole_step) return stages;
  const Proxies wanted = differentiated(trace);
  std::unordered_map<const Proxy*, std::vector<const Proxy*>> grads;
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    if ((*it)->symbol != &ops::differentiable) continue;
    use.restart();
    run_backward(**it, wanted, use, grads, compilation);
    stages.push_back({std::string((*it)->arg("backward").program()->name), use.peak(), use.now()});
  }
  // What PyTorch's own autograd makes of the gradients that leave the regions.
  use.restart();
  bool outside = false;
  for (const Proxy* p : trace.inputs) {
    const TensorProxy* t = as_tensor(p);
    if (!t || !t->type.requires_grad || !wanted.contains(p) || grads.contains(p)) continue;
    use.add(bytes_of(p));
    outside = true;
  }
  for (const auto& [p, own] : grads) {
    if (std::find(trace.inputs.begin(), trace.inputs.end(), p) != trace.inputs.end()) continue;
    for (const Proxy* grad : own) use.drop(grad);
    outside = true;
  }
  if (outside) stages.push_back({"autograd", use.peak(), use.now()});
  return stages;
}

}  // namespace fulmen::bridge
