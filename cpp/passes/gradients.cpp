#include "passes/gradients.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ops/control.h"
#include "ops/meta.h"
#include "ops/state.h"
#include "passes/autodiff.h"
#include "passes/emit.h"
#include "passes/rebase.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

// The memory format of which a clone has these strides, if there is one.
Arg format_of(const TensorType& t) {
  const bool last = !is_contiguous(t) && meta::is_channels_last_contiguous(t);
  return Arg::named(Arg::Kind::kMemoryFormat, !last           ? "contiguous_format"
                                              : t.ndim() == 4 ? "channels_last"
                                                              : "channels_last_3d");
}

bool is_mode(const BoundSymbol& b) { return b.symbol == &ops::set_grad_enabled; }

class Expansion {
 public:
  explicit Expansion(const Trace& trace) : trace_(trace), ctx_(*trace.ctx), out_(trace) {
    out_.body.clear();
  }

  Trace run() {
    for (const BoundSymbol* b : trace_.body) {
      if (b->symbol == &ops::set_inference_mode) throw Unsupported("backward() in inference mode");
      if (b->symbol == &ops::gradients) {
        expand(*renamed(b));
      } else {
        out_.body.push_back(renamed(b));
      }
    }
    out_.output = renamed(trace_.output);
    run_without_autograd();
    return std::move(out_);
  }

 private:
  void expand(const BoundSymbol& b) {
    std::vector<NoRule> missing;
    Gradients g =
        gradients_of(trace_.ctx, out_.body, b.args[0].items(), b.args[1].items(), b.args[2].items(),
                     b.args[4].is_none() ? std::span<const Arg>() : b.args[4].items(), missing);
    if (!missing.empty()) {
      throw Unsupported(cat("backward() through ", missing[0].bsym->symbol->name(), ": ",
                            missing[0].why, source_suffix(missing[0].bsym->source)));
    }
    const bool retain = b.args[3].boolean();
    for (const BoundSymbol* s : g.through) {
      for_each_proxy(s->output, [&](const Proxy* p) {
        if (consumed_.contains(p)) throw Unsupported("a second backward() through one graph");
        if (!retain) consumed_.insert(p);
      });
    }
    retains_ = retains_ || retain;
    out_.body = std::move(g.forward);
    out_.body.push_back(ctx_.make_bound_symbol(ops::backward_begins, {}, Arg(), b.source));
    out_.body.insert(out_.body.end(), g.backward.begin(), g.backward.end());
    std::unordered_set<const Proxy*> fresh;
    for (const BoundSymbol* s : g.backward) {
      for_each_proxy(s->output, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (t && !t->alias_of) fresh.insert(p);
      });
    }
    Builder builder(trace_.ctx);
    builder.grad_enabled = false;
    builder.source = b.source;
    const auto results = b.output.items();
    for (size_t i = 0; i < results.size(); ++i) {
      Arg grad = g.grads[i];
      if (grad.is_none()) throw Unsupported("backward() gives a tensor no gradient");
      const TensorType& wanted = results[i].tensor()->type;
      // Each gradient is a tensor of its own, in the layout that the caller was told of.
      const bool own = fresh.erase(grad.proxy()) != 0;
      if (!(grad.tensor()->type.strides == wanted.strides)) {
        grad = emit("clone", {grad}, {{"memory_format", format_of(wanted)}});
        if (!(grad.tensor()->type.strides == wanted.strides))
          throw Unsupported("a gradient in a layout that is neither contiguous nor its own");
      } else if (!own) {
        grad = emit("clone", {grad});
      }
      if (!(grad.tensor()->type.dtype == wanted.dtype)) throw Unsupported("a gradient's dtype");
      g.renamed.add(results[i].proxy(), grad);
      leaves_.push_back(b.args[2].items()[i]);
    }
    const auto& clones = builder.body();
    out_.body.insert(out_.body.end(), clones.begin(), clones.end());
    renames_.push_back(std::move(g.renamed));
  }

  Arg renamed(Arg a) const {
    for (const Substitution& s : renames_) a = s.apply(ctx_, a);
    return a;
  }
  const BoundSymbol* renamed(const BoundSymbol* b) {
    for (Substitution& s : renames_) b = apply_rebased(s, ctx_, *b);
    return b;
  }

  // Autograd records nothing of it; what the caller gets that still belongs to a graph says so.
  void run_without_autograd() {
    std::unordered_map<const Proxy*, const TensorProxy*> plain;
    const auto without_grad = [&](const Proxy* p) -> Arg {
      const auto known = plain.find(p);
      return known == plain.end() ? Arg(p) : Arg(known->second);
    };
    bool enabled = true;
    std::vector<const BoundSymbol*> body;
    const std::unordered_set<const Proxy*> inputs(trace_.inputs.begin(), trace_.inputs.end());
    std::vector<Arg> leaves;
    for (const Arg& a : leaves_) {
      if (inputs.contains(a.proxy()) && std::find(leaves.begin(), leaves.end(), a) == leaves.end())
        leaves.push_back(a);
    }
    const Arg checked[] = {ctx_.make_collection(Arg::Kind::kList, leaves)};
    body.push_back(ctx_.make_bound_symbol(ops::check_leaves, checked, Arg(), nullptr));
    body.push_back(ops::grad_mode_change(ctx_, false));
    for (const BoundSymbol* b : out_.body) {
      if (is_mode(*b)) {
        enabled = b->args[0].boolean();
        continue;
      }
      for_each_proxy(b->output, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        if (!t || inputs.contains(p)) return;
        const auto base = plain.find(t->alias_of);
        if (!t->type.requires_grad && base == plain.end()) return;
        TensorType type = t->type;
        type.requires_grad = false;
        TensorProxy* now = ctx_.make_tensor(type, t->name);
        now->alias_of = base == plain.end() ? t->alias_of : base->second;
        now->is_inference = t->is_inference;
        plain.emplace(p, now);
      });
      std::vector<Arg> args;
      for (const Arg& a : b->args) args.push_back(map_proxies(ctx_, a, without_grad));
      const Arg output = map_proxies(ctx_, b->output, without_grad);
      body.push_back(ctx_.make_bound_symbol(*b->symbol, args, output, b->source));
    }
    Builder builder(trace_.ctx);
    std::unordered_map<const Proxy*, Arg> results;
    out_.output = map_proxies(ctx_, out_.output, [&](const Proxy* p) -> Arg {
      const TensorProxy* t = as_tensor(p);
      if (!t || !t->type.requires_grad || inputs.contains(p)) return without_grad(p);
      if (t->alias_of) throw Unsupported("a result that is a view with a graph");
      if (!is_consumed(t)) throw Unsupported("a result whose graph outlives the call");
      Arg& result = results[p];
      if (result.is_none()) result = ops::freed(without_grad(p));
      return result;
    });
    // The write-backs stay at the end.
    const auto end = std::find_if(body.begin(), body.end(),
                                  [](const BoundSymbol* b) { return b->symbol->has(kInplace); });
    body.insert(end, builder.body().begin(), builder.body().end());
    body.push_back(ops::grad_mode_change(ctx_, enabled));
    out_.body = std::move(body);
  }

  // Whether a backward from `t` would come to a graph that is gone.
  bool is_consumed(const TensorProxy* t) const {
    if (retains_) return false;
    std::unordered_set<const Proxy*> wanted{t};
    for (auto it = out_.body.rbegin(); it != out_.body.rend(); ++it) {
      bool leads = false, consumed = false;
      for_each_proxy((*it)->output, [&](const Proxy* p) {
        leads = leads || wanted.contains(p);
        consumed = consumed || consumed_.contains(p);
      });
      if (!leads) continue;
      if (consumed) return true;
      for (const Arg& a : (*it)->args) {
        for_each_proxy(a, [&](const Proxy* p) {
          const TensorProxy* input = as_tensor(p);
          if (input && input->type.requires_grad) wanted.insert(p);
        });
      }
    }
    return false;
  }

  const Trace& trace_;
  TraceContext& ctx_;
  Trace out_;
  std::vector<Substitution> renames_;
  std::vector<Arg> leaves_;
  std::unordered_set<const Proxy*> consumed_;  // results of operations that a backward passed
  bool retains_ = false;
};

}  // namespace

Trace expand_gradients(const Trace& trace, PassContext&) {
  const bool any = std::any_of(trace.body.begin(), trace.body.end(),
                               [](const BoundSymbol* b) { return b->symbol == &ops::gradients; });
  if (!any) return trace;
  if (!trace.functional) throw Unsupported("backward() in a program that must run in order");
  return Expansion(trace).run();
}

}  // namespace fulmen::passes
