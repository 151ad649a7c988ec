#include "passes/dce.h"

#include <algorithm>

#include "analysis/proxy_map.h"
#include "ir/control.h"
#include "ir/proxy.h"

namespace fulmen::passes {

bool is_removable(const Symbol& symbol) {
  return symbol.has(kPure) && !symbol.has(kEffect | kRandom | kInplace | kOpaque);
}

namespace {

// Whether eager's call gives a view the history that its base got by a later write: eager's check
// of a write to that view asks for it. See Note [Late graphs].
bool may_renew_history(const BoundSymbol& b) {
  if (!any_requires_grad(b.output)) return false;
  return std::any_of(b.args.begin(), b.args.end(), [](const Arg& a) {
    const TensorProxy* t = a.is_proxy() ? a.tensor() : nullptr;
    return t && t->alias_of && !t->type.requires_grad;
  });
}

}  // namespace

Trace dead_code_elimination(const Trace& trace, PassContext& ctx) {
  ProxyMap<bool> live;
  const auto mark = [&](const Proxy* p) { live.set(p, true); };
  for_each_proxy(trace.output, mark);

  std::vector<const BoundSymbol*> kept;  // in reverse
  kept.reserve(trace.body.size());
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    const BoundSymbol& b = **it;
    if (b.symbol == &del_last_used) continue;
    bool needed = !is_removable(*b.symbol) || (!trace.functional && may_renew_history(b));
    for_each_proxy(b.output, [&](const Proxy* p) { needed = needed || live.get(p); });
    if (!needed && ctx.take_fuel(&b)) continue;
    kept.push_back(&b);
    for (const Arg& a : b.args) for_each_proxy(a, mark);
  }
  if (kept.size() == trace.body.size()) return trace;
  std::reverse(kept.begin(), kept.end());
  Trace out = trace;
  out.body = std::move(kept);
  return out;
}

}  // namespace fulmen::passes
