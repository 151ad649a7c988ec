#include "passes/rebase.h"

namespace fulmen::passes {

const BoundSymbol* apply_rebased(Substitution& map, TraceContext& ctx, const BoundSymbol& bsym) {
  const BoundSymbol* b = map.apply(ctx, bsym);
  if (b == &bsym) return b;
  const Arg output = map_proxies(ctx, b->output, [&](const Proxy* p) -> Arg {
    const TensorProxy* t = as_tensor(p);
    if (!t || !t->alias_of) return Arg(p);
    const Arg base = map.apply(ctx, Arg(t->alias_of));
    if (!base.is_tensor() || base.tensor() == t->alias_of) return Arg(p);
    TensorProxy* renamed = ctx.make_tensor(t->type);
    renamed->alias_of = base.tensor();
    renamed->is_leaf = t->is_leaf;
    renamed->is_inference = t->is_inference;
    return Arg(renamed);
  });
  if (output == b->output) return b;
  map.bind(b->output, output);
  BoundSymbol* out = ctx.make_bound_symbol(*b->symbol, b->args, output, b->source);
  out->executor = b->executor;
  return out;
}

}  // namespace fulmen::passes
