#include "passes/dce.h"

#include <algorithm>

#include "analysis/proxy_map.h"
#include "ir/control.h"

namespace fulmen::passes {

bool is_removable(const Symbol& symbol) {
  return symbol.has(kPure) && !symbol.has(kEffect | kRandom | kInplace | kOpaque);
}

Trace dead_code_elimination(const Trace& trace, PassContext& ctx) {
  ProxyMap<bool> live;
  const auto mark = [&](const Proxy* p) { live.set(p, true); };
  for_each_proxy(trace.output, mark);

  std::vector<const BoundSymbol*> kept;  // in reverse
  kept.reserve(trace.body.size());
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    const BoundSymbol& b = **it;
    if (b.symbol == &del_last_used) continue;
    bool needed = !is_removable(*b.symbol);
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
