#include "passes/autodiff.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "analysis/liveness.h"
#include "ir/builder.h"
#include "ir/control.h"
#include "ir/region.h"
#include "ir/rewrite.h"
#include "ops/arith.h"
#include "ops/reduction.h"
#include "ops/shape.h"
#include "ops/state.h"
#include "passes/dce.h"

namespace fulmen::passes {
namespace {

// The gradient `grad` of a tensor of type `type`, as autograd's engine makes it fit: summed over
// broadcast dimensions, then converted.
Arg fitted(const Arg& grad, const TensorType& type) {
  Arg g = grad;
  const TensorType& given = g.tensor()->type;
  if (!(given.shape == type.shape)) {
    Args dims;
    const size_t lead = given.ndim() - type.ndim();
    for (size_t d = 0; d < given.ndim(); ++d) {
      if (d < lead || (is_one(type.shape[d - lead]) && !is_one(given.shape[d])))
        dims.push_back(Arg(static_cast<int64_t>(d)));
    }
    TraceContext& ctx = Builder::current().ctx();
    if (!dims.empty()) g = ops::sum_dim(g, ctx.make_collection(Arg::Kind::kList, dims), true);
    if (lead > 0) {
      Args size;
      for (const Dim d : type.shape) size.push_back(Arg(d));
      g = ops::view(g, ctx.make_collection(Arg::Kind::kList, size));
    }
  }
  if (g.tensor()->type.dtype == type.dtype) return g;
  if (is_complex(g.tensor()->type.dtype) && !is_complex(type.dtype)) g = ops::real(g);
  return ops::converted(g, type.dtype);
}

bool has_vjp(const Symbol& s) { return s.vjp || (s.info->rules && s.info->rules->has_vjp()); }

// Whether one kernel computes it: ATen's, or that of an operator of the user's.
bool is_kernel(const Symbol& s) { return s.aten != "-" || (s.info->rules && !region_of(s)); }

// The reverse walk: what the forward becomes, and the gradients in order.
class ReverseWalk {
 public:
  ReverseWalk(const std::shared_ptr<TraceContext>& ctx, std::vector<NoRule>& missing)
      : ctx_(ctx), builder_(ctx), missing_(missing) {
    builder_.grad_enabled = false;
  }

  void add(const TensorProxy* t, const Arg& grad) {
    if (const auto same = counts_for_.find(t); same != counts_for_.end()) t = same->second;
    if (grad.is_none() || !(t->type.requires_grad || wanted_.contains(t))) return;
    const Arg fit = fitted(grad, t->type);
    Arg& sum = grads_[t];
    sum = sum.is_none() ? fit : ops::add(sum, fit);
  }

  Arg grad_of(const Proxy* p) const {
    const auto it = grads_.find(p);
    return it == grads_.end() ? Arg() : it->second;
  }

  // Gradients of these are kept even where autograd would not record them: a parameter that the
  // program has updated.
  void want(const Proxy* p) { wanted_.insert(p); }

  // Gradients of `p` are gradients of `t`.
  void count_for(const Proxy* p, const TensorProxy* t) {
    if (p != t) counts_for_.emplace(p, t);
  }

  // `p` is a result of the program: who called it may write to it before the backward.
  void escapes(const Proxy* p) { escaping_.insert(p); }

  // The next bound symbol of the program, from the last.
  void step(const BoundSymbol& b, bool grad_enabled) {
    top_ = &b;
    visit(b, grad_enabled);
  }

  // Bound symbols of the forward, in order.
  std::vector<const BoundSymbol*> forward() const {
    return renamed({forward_.rbegin(), forward_.rend()});
  }
  std::vector<const BoundSymbol*> backward() { return renamed(builder_.body()); }
  const std::vector<const BoundSymbol*>& through() const { return through_; }
  const Substitution& names() const { return names_; }
  Arg rename(const Arg& a) const { return names_.apply(*ctx_, a); }

 private:
  void visit(const BoundSymbol& b, bool grad_enabled) {
    // A non-differentiable one gives a parameter that was updated a value of its own.
    if (b.symbol != &del_last_used && grad_enabled && !b.symbol->has(kNonDifferentiable) &&
        has_grad(b.output)) {
      if (!recomputing_ && &b == top_) through_.push_back(&b);
      builder_.source = b.source;
      std::string why;
      // A recomputed step has its values in the backward as it stands, not those of another form.
      if (by_vjp(b, why) || (!recomputing_ && by_expansion(b, why))) return;
      missing_.push_back({top_, b.symbol == top_->symbol ? why : cat(b.symbol->name(), ": ", why)});
      // Go on with gradients of some value, to find what else has no rule.
      for (const Arg& a : b.args) {
        for_each_proxy(a, [&](const Proxy* p) {
          const TensorProxy* t = as_tensor(p);
          if (!t || !t->type.requires_grad) return;
          TensorType type = t->type;
          type.requires_grad = false;
          grads_.emplace(t, ctx_->make_tensor(type));
        });
      }
    }
    keep(b);
  }

  void keep(const BoundSymbol& b) {
    if (!recomputing_) forward_.push_back(&b);
  }

  std::vector<const BoundSymbol*> renamed(std::vector<const BoundSymbol*> body) const {
    if (names_.empty()) return body;
    for (const BoundSymbol*& b : body) b = names_.apply(*ctx_, *b);
    return body;
  }

  bool has_grad(const Arg& output) const {
    bool found = false;
    for_each_proxy(output, [&](const Proxy* p) { found = found || grads_.contains(p); });
    return found;
  }

  // The gradients of a symbol's output, with its structure; None where there is none.
  Arg gradient(const Arg& output) {
    if (output.is_proxy()) return grad_of(output.proxy());
    if (!output.is_collection()) return {};
    Args items;
    for (const Arg& item : output.items()) items.push_back(gradient(item));
    return ctx_->make_collection(output.kind(), items);
  }

  void distribute(const Arg& arg, const Arg& grad) {
    if (grad.is_none()) return;
    if (const TensorProxy* t = arg.tensor()) return add(t, grad);
    if (!arg.is_collection() || !grad.is_collection()) return;
    for (size_t i = 0; i < std::min(arg.items().size(), grad.items().size()); ++i)
      distribute(arg.items()[i], grad.items()[i]);
  }

  bool by_vjp(const BoundSymbol& b, std::string& why) {
    if (!has_vjp(*b.symbol)) return false;
    const size_t mark = builder_.body().size();
    try {
      Call call(*b.symbol, b.args, builder_);
      const Arg grad = gradient(b.output);
      const bool again = b.symbol->has(kKeepsOperands) && escaping_.contains(b.output.proxy());
      const Arg out = again ? builder_.call(*b.symbol, b.args) : b.output;
      const Args grads = b.symbol->vjp ? b.symbol->vjp(call, out, grad)
                                       : b.symbol->info->rules->vjp(call, out, grad);
      for (size_t i = 0; i < std::min(grads.size(), b.args.size()); ++i)
        distribute(b.args[i], grads[i]);
    } catch (const Unsupported& e) {
      builder_.body().resize(mark);
      why = e.what();
      return false;
    } catch (const UserError& e) {
      if (!b.symbol->vjp) throw;
      // Eager's backward raises it, if one is asked for.
      builder_.body().resize(mark);
      why = e.what();
      return false;
    }
    keep(b);
    return true;
  }

  // A form of `b` in other symbols: augmented, or its decomposition.
  struct Form {
    Arg output;
    std::vector<const BoundSymbol*> body;
  };

  bool expand(const BoundSymbol& b, bool augmented, Form& form, std::string& why) const {
    const Symbol& s = *b.symbol;
    const bool rules = s.info->rules && s.info->rules->has_decomposition();
    if (augmented ? !s.augmented : !s.decompose && !rules) return false;
    try {
      Builder inner(ctx_);
      inner.source = b.source;
      Call call(s, b.args, inner);
      form.output = augmented ? s.augmented(call)
                    : rules   ? s.info->rules->decompose(call)
                              : s.decompose(call);
      form.body = inner.body();
    } catch (const Unsupported& e) {
      why = e.what();
      return false;
    }
    return true;
  }

  bool by_expansion(const BoundSymbol& b, std::string& why) {
    for (const bool augmented : {true, false}) {
      Form form;
      if (!expand(b, augmented, form, why)) continue;
      if (!augmented && is_kernel(*b.symbol) && by_recomputation(b, form)) return true;
      if (!replace(b, form.output, form.body)) {
        why = "its decomposition has results of other types";
        continue;
      }
      for (auto it = form.body.rbegin(); it != form.body.rend(); ++it) visit(**it, true);
      return true;
    }
    if (why.empty()) why = "it has neither a vjp nor a decomposition";
    return false;
  }

  // What one kernel computes stays one: eager's bits. The backward runs the decomposition, and
  // differentiates that.
  bool by_recomputation(const BoundSymbol& b, const Form& form) {
    std::vector<const BoundSymbol*> steps;
    if (recomputing_ || !flatten(form.body, steps)) return false;
    const size_t mark = builder_.body().size();
    const size_t problems = missing_.size();
    const auto grads = grads_;
    for (const BoundSymbol* s : steps) builder_.append(s);
    pass_on(b.output, form.output);
    recomputing_ = true;
    for (auto it = steps.rbegin(); it != steps.rend(); ++it) visit(**it, true);
    recomputing_ = false;
    if (missing_.size() != problems) {
      missing_.resize(problems);
      builder_.body().resize(mark);
      grads_ = grads;
      return false;
    }
    forward_.push_back(&b);
    return true;
  }

  // `body` down to symbols with a vjp. False where it draws random numbers, or there is no way.
  bool flatten(const std::vector<const BoundSymbol*>& body,
               std::vector<const BoundSymbol*>& steps) {
    for (const BoundSymbol* b : body) {
      if (b->symbol->has(kRandom)) return false;
      if (has_vjp(*b->symbol) || !any_requires_grad(b->output)) {
        steps.push_back(b);
        continue;
      }
      Form form;
      std::string why;
      if (!expand(*b, true, form, why) && !expand(*b, false, form, why)) return false;
      if (!replace(*b, form.output, form.body) || !flatten(form.body, steps)) return false;
    }
    return true;
  }

  // The gradients of `old` are those of `now`.
  void pass_on(const Arg& old, const Arg& now) {
    if (const TensorProxy* t = now.tensor(); t && old.is_proxy()) add(t, grad_of(old.proxy()));
    if (!old.is_collection() || !now.is_collection()) return;
    for (size_t i = 0; i < std::min(old.items().size(), now.items().size()); ++i)
      pass_on(old.items()[i], now.items()[i]);
  }

  // Gives the results in `body` the names of `b`'s; a result that `body` does not make (an
  // argument) takes the place of `b`'s instead.
  bool replace(const BoundSymbol& b, const Arg& out, std::vector<const BoundSymbol*>& body) {
    std::unordered_set<const Proxy*> made;
    for (const BoundSymbol* inner : body) {
      for_each_proxy(inner->output, [&](const Proxy* p) { made.insert(p); });
    }
    Substitution map;
    if (!pair(b.output, out, made, map)) return false;
    if (!map.empty()) {
      for (const BoundSymbol*& inner : body) inner = map.apply(*ctx_, *inner);
    }
    return true;
  }

  static bool same_type(const Arg& a, const Arg& b) {
    const TensorProxy *x = a.tensor(), *y = b.tensor();
    if (!x || !y) return !x && !y;
    return x->type.dtype == y->type.dtype && x->type.device == y->type.device &&
           x->type.shape == y->type.shape && x->type.strides == y->type.strides;
  }

  bool pair(const Arg& old, const Arg& now, std::unordered_set<const Proxy*>& made,
            Substitution& map) {
    if (old.is_proxy()) {
      if (!now.is_proxy() || !same_type(old, now)) return false;
      if (made.erase(now.proxy())) {
        map.add(now.proxy(), old);
      } else {
        names_.add(old.proxy(), now);
        if (const TensorProxy* t = now.tensor()) add(t, grad_of(old.proxy()));
      }
      return true;
    }
    if (!old.is_collection()) return true;
    if (!now.is_collection() || now.items().size() != old.items().size()) return false;
    for (size_t i = 0; i < old.items().size(); ++i) {
      if (!pair(old.items()[i], now.items()[i], made, map)) return false;
    }
    return true;
  }

  std::shared_ptr<TraceContext> ctx_;
  Builder builder_;
  std::vector<NoRule>& missing_;
  const BoundSymbol* top_ = nullptr;
  bool recomputing_ = false;  // what is visited is part of the backward already
  std::unordered_map<const Proxy*, Arg> grads_;
  std::vector<const BoundSymbol*> forward_;  // in reverse
  std::vector<const BoundSymbol*> through_;
  std::unordered_set<const Proxy*> wanted_, escaping_;
  std::unordered_map<const Proxy*, const TensorProxy*> counts_for_;
  Substitution names_;
};

// The grad mode in which each bound symbol was recorded.
std::vector<bool> grad_modes(const std::vector<const BoundSymbol*>& body) {
  std::vector<bool> modes;
  bool enabled = true;
  for (const BoundSymbol* b : body) {
    if (b->symbol == &ops::set_grad_enabled) enabled = b->args[0].boolean();
    modes.push_back(enabled);
  }
  return modes;
}

}  // namespace

std::vector<const TensorProxy*> differentiable_results(const Arg& output) {
  std::vector<const TensorProxy*> found;
  for_each_proxy(output, [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    if (!t || !t->type.requires_grad) return;
    if (std::find(found.begin(), found.end(), t) == found.end()) found.push_back(t);
  });
  return found;
}

Gradients gradients_of(const std::shared_ptr<TraceContext>& ctx,
                       const std::vector<const BoundSymbol*>& body, std::span<const Arg> outputs,
                       std::span<const Arg> seeds, std::span<const Arg> wanted,
                       std::span<const Arg> earlier, std::vector<NoRule>& missing) {
  Gradients g;
  ReverseWalk walk(ctx, missing);
  for (const Arg& a : wanted) walk.want(a.proxy());
  for (size_t i = 0; i < earlier.size(); ++i) {
    for (const Arg& a : earlier[i].items()) walk.count_for(a.proxy(), wanted[i].tensor());
  }
  for (size_t i = 0; i < outputs.size(); ++i) walk.add(outputs[i].tensor(), seeds[i]);
  const std::vector<bool> modes = grad_modes(body);
  for (size_t i = body.size(); i-- > 0;) walk.step(*body[i], modes[i]);
  for (const Arg& a : wanted) g.grads.push_back(walk.rename(walk.grad_of(a.proxy())));
  g.forward = walk.forward();
  g.backward = walk.backward();
  g.through = walk.through();
  g.renamed = walk.names();
  return g;
}

Differentiated differentiate(const Trace& trace, const GradRequest& request,
                             std::vector<NoRule>& missing) {
  Differentiated d;
  d.forward = trace;
  d.forward.name = "forward";
  d.backward.ctx = trace.ctx;
  d.backward.name = "backward";
  d.backward.functional = true;
  const std::vector<const TensorProxy*> results = differentiable_results(trace.output);
  std::vector<const Proxy*> seeds;
  {
    ReverseWalk walk(trace.ctx, missing);
    for_each_proxy(trace.output, [&](const Proxy* p) { walk.escapes(p); });
    for (size_t i = 0; i < results.size(); ++i) {
      if (!request.given.empty() && !request.given[i]) continue;
      TensorType type = request.types.empty() ? results[i]->type : request.types[seeds.size()];
      type.requires_grad = false;
      const Proxy* seed = trace.ctx->make_tensor(type, cat("grad_", results[i]->name));
      seeds.push_back(seed);
      walk.add(results[i], seed);
    }
    const std::vector<bool> modes = grad_modes(trace.body);
    for (size_t i = trace.body.size(); i-- > 0;) walk.step(*trace.body[i], modes[i]);
    Args grads;
    for (size_t i = 0; i < trace.inputs.size(); ++i) {
      const bool wanted = request.wanted.empty() || request.wanted[i];
      grads.push_back(wanted ? walk.grad_of(trace.inputs[i]) : Arg());
    }
    d.backward.inputs = seeds;
    d.backward.body = walk.backward();
    d.backward.output = walk.rename(trace.ctx->make_collection(Arg::Kind::kTuple, grads));
    d.forward.body = walk.forward();
    d.forward.output = walk.rename(trace.output);
  }
  if (!missing.empty()) return d;
  PassContext quiet;
  d.backward = dead_code_elimination(d.backward, quiet);
  d.saved = free_values(d.backward.body, seeds, d.backward.output);
  d.backward.inputs.insert(d.backward.inputs.begin(), d.saved.begin(), d.saved.end());
  Args saved;
  for (const Proxy* p : d.saved) saved.push_back(Arg(p));
  const Arg outputs[] = {d.forward.output, trace.ctx->make_collection(Arg::Kind::kTuple, saved)};
  d.forward.output = trace.ctx->make_collection(Arg::Kind::kTuple, outputs);
  d.forward = dead_code_elimination(d.forward, quiet);
  return d;
}

}  // namespace fulmen::passes
