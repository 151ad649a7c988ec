#include "passes/saved_values.h"

#include <algorithm>
#include <unordered_set>

#include "ir/builder.h"

namespace fulmen::passes {
namespace {

using Counts = std::function<bool(const Proxy*)>;

// Some gradient for each differentiable tensor of `output`, with its structure.
Arg some_gradient(TraceContext& ctx, const Arg& output) {
  if (const TensorProxy* t = output.tensor()) {
    if (!t->type.requires_grad) return {};
    TensorType type = t->type;
    type.requires_grad = false;
    return Arg(ctx.make_tensor(type));
  }
  if (!output.is_collection()) return {};
  Args items;
  for (const Arg& item : output.items()) items.push_back(some_gradient(ctx, item));
  return ctx.make_collection(output.kind(), items);
}

// The proxies in `form` that stand for those in `output` that count.
void pair(const Arg& output, const Arg& form, const Counts& counts,
          std::unordered_set<const Proxy*>& found) {
  if (output.is_proxy()) {
    if (form.is_proxy() && counts(output.proxy())) found.insert(form.proxy());
  } else if (output.is_collection() && form.is_collection()) {
    const size_t n = std::min(output.items().size(), form.items().size());
    for (size_t i = 0; i < n; ++i) pair(output.items()[i], form.items()[i], counts, found);
  }
}

bool any(const Arg& a, const Counts& counts) {
  bool found = false;
  for_each_proxy(a, [&](const Proxy* p) { found = found || counts(p); });
  return found;
}

bool is_read_by_vjp(const std::shared_ptr<TraceContext>& ctx, const BoundSymbol& b,
                    const Counts& counts) {
  Builder scratch(ctx);
  scratch.grad_enabled = false;
  Call call(*b.symbol, b.args, scratch);
  const Arg grad = some_gradient(*ctx, b.output);
  const Arg out = b.symbol->has(kKeepsOperands) ? scratch.call(*b.symbol, b.args) : b.output;
  const Args grads =
      b.symbol->vjp ? b.symbol->vjp(call, out, grad) : b.symbol->info->rules->vjp(call, out, grad);
  for (const Arg& g : grads) {
    if (any(g, counts)) return true;
  }
  // The first step may be the symbol itself, made again for its result.
  return std::any_of(scratch.body().begin(), scratch.body().end(), [&](const BoundSymbol* step) {
    return std::any_of(step->args.begin(), step->args.end(),
                       [&](const Arg& a) { return any(a, counts); });
  });
}

// Whether the backward of `b` reads a tensor that `counts` accepts.
bool is_saved(const std::shared_ptr<TraceContext>& ctx, const BoundSymbol& b,
              const Counts& counts) {
  const Symbol& s = *b.symbol;
  if (!any_requires_grad(b.output) || s.has(kNonDifferentiable | kOpaque)) return false;
  try {
    if (s.vjp || (s.info->rules && s.info->rules->has_vjp())) return is_read_by_vjp(ctx, b, counts);
  } catch (const Unsupported&) {
    // Another form has the gradient.
  }
  if (!s.augmented && !s.decompose) return false;
  try {
    Builder inner(ctx);
    Call call(s, b.args, inner);
    const Arg form = s.augmented ? s.augmented(call) : s.decompose(call);
    std::unordered_set<const Proxy*> results;
    pair(b.output, form, counts, results);
    const Counts inside = [&](const Proxy* p) { return results.contains(p) || counts(p); };
    return std::any_of(inner.body().begin(), inner.body().end(),
                       [&](const BoundSymbol* step) { return is_saved(ctx, *step, inside); });
  } catch (const Unsupported&) {
    return false;
  }
}

}  // namespace

const BoundSymbol* find_spoiled(
    const std::shared_ptr<TraceContext>& ctx, const std::vector<const BoundSymbol*>& body,
    std::span<const Arg> results,
    const std::function<bool(const TensorProxy*, size_t place)>& was_written) {
  std::unordered_set<const Proxy*> wanted;  // tensors with a gradient that leads to a result
  const auto want = [&](const Proxy* p) {
    const TensorProxy* t = as_tensor(p);
    if (t && t->type.requires_grad) wanted.insert(p);
  };
  for (const Arg& a : results) for_each_proxy(a, want);
  for (size_t i = body.size(); i-- > 0;) {
    const BoundSymbol& b = *body[i];
    if (!any_requires_grad(b.output)) continue;
    const Counts counts = [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      return t && was_written(t, i);
    };
    bool leads = false, touches = false;
    for_each_proxy(b.output, [&](const Proxy* p) {
      leads = leads || wanted.contains(p);
      touches = touches || counts(p);
    });
    if (!leads) continue;
    for (const Arg& a : b.args) {
      for_each_proxy(a, [&](const Proxy* p) {
        want(p);
        touches = touches || counts(p);
      });
    }
    if (touches && is_saved(ctx, b, counts)) return &b;
  }
  return nullptr;
}

}  // namespace fulmen::passes
