#include "passes/grad_regions.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "analysis/liveness.h"
#include "ir/control.h"
#include "ops/control.h"
#include "ops/state.h"
#include "passes/autodiff.h"
#include "support/cat.h"

namespace fulmen::passes {
namespace {

constexpr std::string_view kName = "autodiff";
// PyTorch's own node is as good for a single operation.
constexpr size_t kFewest = 2;

bool has_tensor_inputs_only(const BoundSymbol& b) {
  bool good = true;
  const auto check = [&](const Proxy* p) { good = good && (as_tensor(p) || as_number(p)); };
  for (const Arg& a : b.args) for_each_proxy(a, check);
  for_each_proxy(b.output, check);
  return good;
}

class Regions {
 public:
  Regions(const Trace& trace, PassContext& ctx)
      : trace_(trace), ctx_(ctx), modes_(grad_modes()), last_use_(last_uses(trace)) {
    for (size_t i = 0; i < trace.body.size(); ++i)
      inside_.push_back(may_be_inside(*trace.body[i], modes_[i]));
  }

  // Tries until every region can be differentiated: what can't leaves its region.
  Trace run() {
    for (;;) {
      out_ = trace_;
      out_.body.clear();
      missing_.clear();
      for (size_t i = 0; i < trace_.body.size(); ++i) step(i);
      close(trace_.body.size());
      if (missing_.empty()) break;
      for (const NoRule& m : missing_) expel(m);
    }
    return changed_ ? std::move(out_) : trace_;
  }

 private:
  std::vector<bool> grad_modes() const {
    std::vector<bool> modes;
    bool enabled = true;
    for (const BoundSymbol* b : trace_.body) {
      const bool grad = b->symbol == &ops::set_grad_enabled;
      if (!grad && b->symbol != &ops::set_inference_mode) continue;
      enabled = b->args[0].boolean() != grad;  // the first change tells what was before it
      break;
    }
    for (const BoundSymbol* b : trace_.body) {
      if (b->symbol == &ops::set_grad_enabled) enabled = b->args[0].boolean();
      if (b->symbol == &ops::set_inference_mode) enabled = !b->args[0].boolean();
      modes.push_back(enabled);
    }
    return modes;
  }

  static bool may_be_inside(const BoundSymbol& b, bool grad_enabled) {
    const Symbol& s = *b.symbol;
    if (s.has(kOpaque | kInplace | kEffect) || &s == &del_last_used) return false;
    if (s.info->schema.variadic || !has_tensor_inputs_only(b)) return false;
    // A view made without grad mode requires grad, but passes no gradient on.
    return grad_enabled || !any_requires_grad(b.output);
  }

  void step(size_t i) {
    const BoundSymbol& b = *trace_.body[i];
    if (inside_[i]) {
      pending_.push_back(i);
      for_each_proxy(b.output, [&](const Proxy* p) { made_.insert(p); });
      return;
    }
    bool depends = b.symbol->has(kOpaque | kInplace | kRandom);
    for (const Arg& a : b.args) {
      for_each_proxy(a, [&](const Proxy* p) { depends = depends || made_.contains(p); });
    }
    if (depends || b.symbol == &ops::set_inference_mode) close(i);
    if (pending_.empty()) {
      out_.body.push_back(&b);
    } else {
      pending_.push_back(i);
    }
  }

  // An executor's own gradient, and that of an operator of the user's, are not PyTorch's to find.
  size_t fewest(const std::vector<const BoundSymbol*>& body) const {
    const bool own = std::any_of(body.begin(), body.end(), [](const BoundSymbol* b) {
      return b->symbol->info->rules != nullptr;
    });
    return own || ctx_.own_gradients ? 1 : kFewest;
  }

  void expel(const NoRule& m) {
    for (size_t i = 0; i < trace_.body.size(); ++i) {
      if (trace_.body[i] != m.bsym) continue;
      inside_[i] = false;
      ctx_.note(kName, cat(m.bsym->symbol->name(), " is left to PyTorch's autograd: ", m.why));
    }
  }

  // Ends the region before the bound symbol `at`.
  void close(size_t at) {
    const std::vector<size_t> pending = std::move(pending_);
    const std::unordered_set<const Proxy*> made = std::move(made_);
    pending_.clear();
    made_.clear();
    std::vector<const BoundSymbol*> body, between;
    size_t differentiated = 0;
    for (const size_t i : pending) {
      const BoundSymbol* b = trace_.body[i];
      (inside_[i] ? body : between).push_back(b);
      differentiated += inside_[i] && any_requires_grad(b->output);
    }
    // Each in its own grad mode.
    const auto leave = [&] {
      for (const size_t i : pending) out_.body.push_back(trace_.body[i]);
    };
    const bool own = std::any_of(body.begin(), body.end(), [](const BoundSymbol* b) {
      return b->symbol->info->rules && b->symbol->info->rules->has_vjp();
    });
    if (differentiated < fewest(body)) return leave();
    if (!own && !ctx_.take_fuel(body.front())) return leave();
    // Results that are views are made again outside, from the last first.
    std::unordered_set<const Proxy*> wanted;
    std::vector<const BoundSymbol*> views;
    for (const BoundSymbol* b : body) {
      for_each_proxy(b->output, [&](const Proxy* p) {
        if (last_use_.at(p) >= at) wanted.insert(p);
      });
    }
    for (auto it = body.rbegin(); it != body.rend(); ++it) {
      const BoundSymbol& b = **it;
      bool is_view = false;
      for_each_proxy(b.output, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        is_view = is_view || (t && t->alias_of && wanted.contains(p));
      });
      if (!is_view) continue;
      views.push_back(&b);
      for_each_proxy(b.output, [&](const Proxy* p) { wanted.erase(p); });
      for (const Arg& a : b.args) {
        for_each_proxy(a, [&](const Proxy* p) {
          if (made.contains(p)) wanted.insert(p);
        });
      }
    }
    Args results;
    for (const BoundSymbol* b : body) {
      for_each_proxy(b->output, [&](const Proxy* p) {
        if (wanted.erase(p)) results.push_back(Arg(p));
      });
    }
    if (results.empty() ||
        !any_requires_grad(trace_.ctx->make_collection(Arg::Kind::kTuple, results))) {
      return leave();
    }
    out_.body.insert(out_.body.end(), between.begin(), between.end());
    const bool grad_enabled = modes_[at - 1];
    if (!grad_enabled) set_grad_mode(true, body.back()->source);
    emit(body, results);
    out_.body.insert(out_.body.end(), views.rbegin(), views.rend());
    if (!grad_enabled) set_grad_mode(false, body.back()->source);
  }

  void set_grad_mode(bool enabled, decltype(BoundSymbol::source) source) {
    out_.body.push_back(ops::grad_mode_change(*trace_.ctx, enabled, source));
  }

  void emit(const std::vector<const BoundSymbol*>& body, const Args& results) {
    TraceContext& ctx = *trace_.ctx;
    Trace part;
    part.ctx = trace_.ctx;
    part.body = body;
    part.functional = true;
    part.output = ctx.make_collection(Arg::Kind::kTuple, results);
    part.inputs = free_values(body);
    const size_t before = missing_.size();
    const Differentiated d = differentiate(part, {}, missing_);
    if (missing_.size() != before) return;
    changed_ = true;
    Args inputs;
    for (const Proxy* p : part.inputs) inputs.push_back(Arg(p));
    const Arg forward = ctx.make_program(d.forward);
    const Arg args[] = {forward, ctx.make_program(d.backward), forward,
                        ctx.make_collection(Arg::Kind::kList, inputs)};
    out_.body.push_back(
        ctx.make_bound_symbol(ops::differentiable, args, part.output, body.back()->source));
  }

  const Trace& trace_;
  PassContext& ctx_;
  const std::vector<bool> modes_;  // whether gradients are recorded, after each bound symbol
  const std::unordered_map<const Proxy*, size_t> last_use_;
  std::vector<bool> inside_;
  Trace out_;
  std::vector<size_t> pending_;  // from the region's first bound symbol on
  std::unordered_set<const Proxy*> made_;
  std::vector<NoRule> missing_;
  bool changed_ = false;
};

}  // namespace

Trace differentiate_regions(const Trace& trace, PassContext& ctx) {
  const bool any = std::any_of(trace.inputs.begin(), trace.inputs.end(),
                               [](const Proxy* p) { return any_requires_grad(Arg(p)); });
  return any ? Regions(trace, ctx).run() : trace;
}

}  // namespace fulmen::passes
