#include "passes/rematerialize.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "analysis/liveness.h"
#include "ir/rewrite.h"
#include "ops/control.h"
#include "ops/replay.h"
#include "passes/dce.h"
#include "passes/rebase.h"
#include "passes/save_plan.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

Device device_of(const BoundSymbol& b) {
  Device device;
  for_each_proxy(b.output, [&](const Proxy* p) {
    if (const TensorProxy* t = as_tensor(p)) device = t->type.device;
  });
  return device;
}

// Puts bound symbols of the forward before the first use of what they make.
class Recomputation {
 public:
  // `one_trace`: the forward stands in the same trace, so that what is made again has other names.
  Recomputation(TraceContext& ctx, std::span<const BoundSymbol* const> forward,
                std::span<const Proxy* const> available, bool one_trace)
      : ctx_(ctx),
        forward_(forward),
        one_trace_(one_trace),
        there_(available.begin(), available.end()) {
    for (size_t i = 0; i < forward.size(); ++i)
      for_each_proxy(forward[i]->output, [&](const Proxy* p) { producer_.emplace(p, i); });
  }

  void add_there(const Proxy* p) { there_.insert(p); }

  void follow(const BoundSymbol* b) {
    need_all(b->args);
    for_each_proxy(b->output, [&](const Proxy* p) { add_there(p); });
    body_.push_back(apply_rebased(renamed_, ctx_, *b));
  }
  void need(const Arg& a) {
    for_each_proxy(a, [&](const Proxy* p) { need(p); });
  }

  std::vector<const BoundSymbol*>& body() { return body_; }
  // What stands under another name behind the backward.
  Substitution& renamed() { return renamed_; }

 private:
  void need_all(std::span<const Arg> args) {
    for (const Arg& a : args) need(a);
  }

  void need(const Proxy* p) {
    if (there_.contains(p)) return;
    const auto it = producer_.find(p);
    // An input, or made by the backward itself.
    if (it == producer_.end()) return;
    const BoundSymbol& b = *forward_[it->second];
    need_all(b.args);
    const Proxy* restore = nullptr;
    if (b.symbol->has(kRandom)) restore = exchange(b, state_before(it->second));
    body_.push_back(one_trace_ ? under_new_names(b) : without_clashes(b));
    for_each_proxy(b.output, [&](const Proxy* q) { add_there(q); });
    if (restore) exchange(b, restore);
  }

  const Proxy* state_before(size_t i) {
    if (i == 0 || forward_[i - 1]->symbol != &ops::random_state)
      internal_error("a backward draws random numbers again, whose state was not noted");
    return forward_[i - 1]->output.proxy();
  }

  const Proxy* exchange(const BoundSymbol& b, const Proxy* state) {
    Builder builder(ctx_.shared_from_this());
    builder.source = b.source;
    const Arg args[] = {Arg(device_of(b)), Arg(state)};
    const Arg before = builder.call(ops::exchange_random_state, args);
    body_.push_back(builder.body()[0]);
    return before.proxy();
  }

  // A result that is there already is made a second time, and not used.
  const BoundSymbol* without_clashes(const BoundSymbol& b) {
    const Arg output = map_proxies(ctx_, b.output, [&](const Proxy* p) -> Arg {
      return as_tensor(p) && there_.contains(p) ? Arg(copy_of(p)) : Arg(p);
    });
    return output == b.output ? &b : ctx_.make_bound_symbol(*b.symbol, b.args, output, b.source);
  }

  const BoundSymbol* under_new_names(const BoundSymbol& original) {
    const BoundSymbol& b = *renamed_.apply(ctx_, original);
    const Arg output = map_proxies(ctx_, original.output, [&](const Proxy* p) {
      const Arg copy(copy_of(p));
      // What was there before keeps its name.
      if (!there_.contains(p)) renamed_.add(p, copy);
      return copy;
    });
    return ctx_.make_bound_symbol(*b.symbol, b.args, output, b.source);
  }

  const Proxy* copy_of(const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    TensorProxy* copy = ctx_.make_tensor(t->type);
    if (t->alias_of) copy->alias_of = renamed_.apply(ctx_, Arg(t->alias_of)).tensor();
    copy->is_inference = t->is_inference;
    return copy;
  }

  TraceContext& ctx_;
  std::span<const BoundSymbol* const> forward_;
  const bool one_trace_;
  std::unordered_set<const Proxy*> there_;
  std::unordered_map<const Proxy*, size_t> producer_;
  Substitution renamed_;
  std::vector<const BoundSymbol*> body_;
};

const BoundSymbol* state_of(TraceContext& ctx, const BoundSymbol& drawing) {
  Builder builder(ctx.shared_from_this());
  builder.source = drawing.source;
  const Arg args[] = {Arg(device_of(drawing))};
  builder.call(ops::random_state, args);
  return builder.body()[0];
}

// A forward that notes the states of generators from which the backward draws again, and what is
// there when the backward begins.
struct Noted {
  std::vector<const BoundSymbol*> body;
  std::vector<const Proxy*> available;
};

Noted noted(TraceContext& ctx, std::span<const BoundSymbol* const> forward, const SavePlan& plan) {
  Noted out{{}, {plan.saved.begin(), plan.saved.end()}};
  for (size_t i = 0; i < forward.size(); ++i) {
    if (plan.again[i] && redraws(*forward[i])) {
      out.body.push_back(state_of(ctx, *forward[i]));
      out.available.push_back(out.body.back()->output.proxy());
    }
    out.body.push_back(forward[i]);
  }
  return out;
}

bool runs_nothing(const SavePlan& plan) {
  return std::find(plan.again.begin(), plan.again.end(), true) == plan.again.end();
}

const BoundSymbol* planned(const BoundSymbol& region,
                           const std::unordered_set<const Proxy*>& written, PassContext& ctx) {
  const Subprogram& forward = *region.arg("forward").program();
  const Subprogram& backward = *region.arg("backward").program();
  const auto old_saved = forward.output.items()[1].items();
  SaveProblem problem{forward.inputs, forward.body, {}, {}, written};
  for (const Arg& r : forward.output.items()[0].items()) problem.results.push_back(r.proxy());
  for (const Arg& s : old_saved) problem.needed.push_back(s.proxy());
  const SavePlan plan = plan_saving(problem, ctx.options);
  if (runs_nothing(plan) || !ctx.take_fuel()) return &region;

  TraceContext& context = *forward.ctx;
  Noted now = noted(context, forward.body, plan);
  Trace fw = to_trace(forward);
  fw.name = "forward";
  fw.body = std::move(now.body);
  const std::vector<const Proxy*> seeds(backward.inputs.begin() + old_saved.size(),
                                        backward.inputs.end());
  Trace bw = to_trace(backward);
  bw.name = "backward";
  bw = with_recomputation(bw, fw.body, now.available, seeds);
  Args saved;
  for (size_t i = 0; i + seeds.size() < bw.inputs.size(); ++i) saved.push_back(Arg(bw.inputs[i]));
  const Arg outputs[] = {forward.output.items()[0],
                         context.make_collection(Arg::Kind::kTuple, saved)};
  fw.output = context.make_collection(Arg::Kind::kTuple, outputs);
  const Arg program = context.make_program(fw);
  const Arg args[] = {program, context.make_program(bw), program, region.arg("inputs")};
  return context.make_bound_symbol(*region.symbol, args, region.output, region.source);
}

bool begins_backward(const BoundSymbol* b) { return b->symbol == &ops::backward_begins; }

// Of a program with a backward() in it: what stands before it is the forward, and all that follows
// may compute values of it again, up to where the program writes to its inputs. Of the backwards
// that begin at or after `from`, does the first; returns where the next may be, or -1.
int64_t plan_next_backward(Trace& trace, int64_t from, PassContext& ctx) {
  const auto begin = std::find_if(trace.body.begin() + from, trace.body.end(), begins_backward);
  if (begin == trace.body.end()) return -1;
  const auto end = std::find_if(begin + 1, trace.body.end(), [](const BoundSymbol* b) {
    return begins_backward(b) || b->symbol->has(kInplace);
  });
  const std::span<const BoundSymbol* const> forward(trace.body.begin(), begin);
  const std::span<const BoundSymbol* const> backward(begin + 1, end), rest(end, trace.body.end());
  SaveProblem problem{trace.inputs,          forward, free_values(rest, {}, trace.output),
                      free_values(backward), {},      true};
  const SavePlan plan = plan_saving(problem, ctx.options);
  if (runs_nothing(plan) || !ctx.take_fuel()) return trace.body.erase(begin) - trace.body.begin();
  Noted now = noted(*trace.ctx, forward, plan);
  Recomputation again(*trace.ctx, now.body, now.available, true);
  for (const BoundSymbol* b : backward) again.follow(b);
  std::vector<const BoundSymbol*> body = now.body;
  body.push_back(*begin);
  body.insert(body.end(), again.body().begin(), again.body().end());
  const auto next = static_cast<int64_t>(body.size());
  for (const BoundSymbol* b : rest) body.push_back(apply_rebased(again.renamed(), *trace.ctx, *b));
  trace.output = again.renamed().apply(*trace.ctx, trace.output);
  trace.body = std::move(body);
  return next;
}

}  // namespace

Trace with_recomputation(const Trace& backward, std::span<const BoundSymbol* const> forward,
                         std::span<const Proxy* const> available,
                         std::span<const Proxy* const> seeds) {
  Trace out = backward;
  Recomputation again(*backward.ctx, forward, available, false);
  for (const Proxy* p : seeds) again.add_there(p);
  for (const BoundSymbol* b : backward.body) again.follow(b);
  again.need(backward.output);
  out.body = std::move(again.body());
  out.inputs = free_values(out.body, seeds, out.output);
  out.inputs.insert(out.inputs.end(), seeds.begin(), seeds.end());
  return out;
}

std::optional<RegionBackward> region_backward(const Subprogram& primal, const GradRequest& request,
                                              std::span<const Proxy* const> saved) {
  Trace trace = to_trace(primal);
  trace.output = trace.output.items()[0];
  std::vector<NoRule> missing;
  const Differentiated d = differentiate(trace, request, missing);
  if (!missing.empty()) return std::nullopt;
  const std::span<const Proxy* const> seeds(d.backward.inputs.begin() + d.saved.size(),
                                            d.backward.inputs.end());
  Trace backward = with_recomputation(d.backward, primal.body, saved, seeds);
  const size_t num_saved = backward.inputs.size() - seeds.size();
  for (size_t i = 0; i < num_saved; ++i) {
    if (std::find(saved.begin(), saved.end(), backward.inputs[i]) == saved.end())
      return std::nullopt;
  }
  return RegionBackward{std::move(backward), num_saved};
}

Trace rematerialize(const Trace& trace, PassContext& ctx) {
  std::unordered_set<const Proxy*> written;
  for (const BoundSymbol* b : trace.body) {
    if (!b->symbol->has(kInplace)) continue;
    for (const Arg& a : b->args)
      for_each_proxy(a, [&](const Proxy* p) { written.insert(storage_of(p)); });
  }
  Trace out = trace;
  bool changed = false;
  for (const BoundSymbol*& b : out.body) {
    if (b->symbol != &ops::differentiable) continue;
    const BoundSymbol* now = planned(*b, written, ctx);
    changed = changed || now != b;
    b = now;
  }
  const bool steps = std::any_of(out.body.begin(), out.body.end(), begins_backward);
  for (int64_t at = 0; at >= 0;) at = plan_next_backward(out, at, ctx);
  if (steps) return dead_code_elimination(out, ctx);
  return changed ? out : trace;
}

}  // namespace fulmen::passes
