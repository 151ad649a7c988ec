#include "passes/own_gradient.h"

#include <algorithm>
#include <unordered_set>

#include "analysis/liveness.h"
#include "ir/region.h"
#include "ops/creation.h"
#include "ops/shape.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

struct OwnRules final : RegionRules {
  // Takes the region's inputs, its results and their gradients; returns the gradients of the
  // inputs.
  const Subprogram* gradient = nullptr;
  size_t num_results = 0;  // of the bound symbol; what the region returns after these is saved

  bool has_vjp() const override { return true; }

  Args vjp(Call& in, const Arg& out, const Arg& grad) override {
    const Args outputs = region_outputs(out);
    const Args grads = grad.is_tensor() ? Args{grad} : Args(grad.items());
    Substitution map;
    const Proxy* const* to = gradient->inputs.data();
    for (const Arg& a : in.args()) map.add(*to++, a);
    for (const Arg& a : outputs) map.add(*to++, a);
    std::unordered_set<const Proxy*> read;
    for (const Proxy* p : free_values(gradient->body, {}, gradient->output)) read.insert(p);
    for (size_t i = 0; i < num_results; ++i, ++to) {
      if (read.contains(*to)) map.add(*to, arrived(grads[i], *as_tensor(*to)));
    }
    return Args(inline_program(in.builder(), *gradient, map).items());
  }

 private:
  // What was recorded is right for gradients in the layout that it was recorded with.
  static Arg arrived(const Arg& grad, const TensorProxy& expected) {
    const TensorType& t = expected.type;
    if (grad.is_none()) {
      Builder& builder = Builder::current();
      Args size;
      for (const Dim d : t.shape) size.push_back(Arg(d));
      Args args;
      const Kwargs named = {{"dtype", Arg(t.dtype)}, {"device", Arg(t.device)}};
      const Arg shape[] = {builder.ctx().make_collection(Arg::Kind::kList, size)};
      if (!try_bind(ops::zeros.info->schema, shape, named, builder.arena(), args))
        internal_error("zeros() does not take a size, a dtype and a device");
      return builder.call(ops::zeros, args);
    }
    return grad.tensor()->type.strides == t.strides ? grad : ops::contiguous_clone(grad);
  }
};

}  // namespace

const BoundSymbol* with_own_gradient(const std::shared_ptr<TraceContext>& ctx,
                                     const BoundSymbol& bsym, const OwnGradient& own) {
  // What reads a gradient is the backward's.
  std::unordered_set<const Proxy*> of_backward;
  for (const auto& [result, gradient] : own.gradients) of_backward.insert(gradient);
  std::vector<const BoundSymbol*> forward, backward;
  for (const BoundSymbol* b : own.body) {
    bool reads = false;
    for (const Arg& a : b->args) {
      for_each_proxy(a, [&](const Proxy* p) { reads = reads || of_backward.contains(p); });
    }
    (reads ? backward : forward).push_back(b);
    if (reads) for_each_proxy(b->output, [&](const Proxy* p) { of_backward.insert(p); });
  }

  std::vector<const Proxy*> results, recorded;
  for_each_proxy(bsym.output, [&](const Proxy* p) { results.push_back(p); });
  for_each_proxy(own.output, [&](const Proxy* p) { recorded.push_back(p); });
  if (results.size() != recorded.size()) throw Unsupported("it returned another structure");
  for (const Proxy* p : recorded) {
    if (of_backward.contains(p)) throw Unsupported("its result depends on a gradient");
  }

  std::vector<const Proxy*> inputs;
  for (const Arg& a : bsym.args) {
    for_each_proxy(a, [&](const Proxy* p) {
      if (std::find(inputs.begin(), inputs.end(), p) == inputs.end()) inputs.push_back(p);
    });
  }
  Args grads;
  grads.resize(inputs.size(), Arg());
  for (const auto& [argument, gradient] : own.puts) {
    const auto at = std::find(inputs.begin(), inputs.end(), argument);
    if (at == inputs.end()) throw Unsupported("it put a gradient for what is no argument");
    if (!grads[at - inputs.begin()].is_none())
      throw Unsupported("it put two gradients for one argument");
    grads[at - inputs.begin()] = gradient;
  }
  const Arg gradients = ctx->make_collection(Arg::Kind::kTuple, grads);

  // What the backward reads of the forward is saved by being a result.
  std::vector<const Proxy*> outputs = recorded, from = results;
  std::vector<const Proxy*> known = inputs;
  for (const auto& [result, gradient] : own.gradients) known.push_back(gradient);
  for (const Proxy* p : free_values(backward, known, gradients)) {
    if (std::find(recorded.begin(), recorded.end(), p) != recorded.end()) continue;
    const TensorProxy* t = as_tensor(p);
    if (!t) throw Unsupported("its backward reads a number that its forward computes");
    outputs.push_back(p);
    TensorType type = t->type;
    type.requires_grad = false;
    from.push_back(ctx->make_tensor(std::move(type), t->name));
  }
  for (const Proxy* p : outputs) {
    if (!as_tensor(p)) throw Unsupported("a result is no tensor");
    if (std::find(inputs.begin(), inputs.end(), p) != inputs.end())
      throw Unsupported("it returned an argument");
  }

  Trace gradient;
  gradient.ctx = ctx;
  gradient.name = cat(bsym.symbol->name(), "_backward");
  gradient.inputs = inputs;
  gradient.inputs.insert(gradient.inputs.end(), outputs.begin(), outputs.end());
  for (const Proxy* p : recorded) {
    const Proxy* seed = nullptr;
    for (const auto& [result, of] : own.gradients) seed = result == p ? of : seed;
    gradient.inputs.push_back(seed ? seed : ctx->make_tensor(as_tensor(p)->type));
  }
  gradient.body = backward;
  gradient.output = gradients;

  auto rules = std::make_shared<OwnRules>();
  rules->gradient = ctx->make_program(gradient);
  rules->num_results = results.size();
  const BoundSymbol* call = make_region_call(*ctx, cat(bsym.symbol->name(), "_own"), forward,
                                             inputs, outputs, std::move(rules));
  // Under the names that the rest of the program knows.
  Args renamed;
  for (const Proxy* p : from) renamed.push_back(Arg(p));
  const Arg output =
      renamed.size() == 1 ? renamed[0] : ctx->make_collection(Arg::Kind::kTuple, renamed);
  return ctx->make_bound_symbol(*call->symbol, call->args, output, bsym.source);
}

}  // namespace fulmen::passes
