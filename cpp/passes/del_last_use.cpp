#include "passes/del_last_use.h"

#include <algorithm>

#include "analysis/proxy_map.h"
#include "ir/control.h"

namespace fulmen::passes {

Trace del_last_use(const Trace& trace, PassContext&) {
  ProxyMap<bool> needed;  // by something later, or by the caller
  for (const Proxy* p : trace.inputs) needed.set(p, true);
  for_each_proxy(trace.output, [&](const Proxy* p) { needed.set(p, true); });
  std::vector<const BoundSymbol*> body;  // in reverse
  body.reserve(2 * trace.body.size());
  bool changed = false;
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    const BoundSymbol& b = **it;
    if (b.symbol == &del_last_used) return trace;  // done before
    Args dead;
    const auto look = [&](const Proxy* p) {
      if (needed.get(p)) return;
      needed.set(p, true);
      if (p->kind == ProxyKind::kTensor) dead.push_back(Arg(p));
    };
    for (const Arg& a : b.args) for_each_proxy(a, look);
    for_each_proxy(b.output, look);
    if (!dead.empty()) {
      changed = true;
      const Arg list = trace.ctx->make_collection(Arg::Kind::kTuple, dead);
      body.push_back(trace.ctx->make_bound_symbol(del_last_used, {&list, 1}, Arg(), b.source));
    }
    body.push_back(&b);
  }
  if (!changed) return trace;
  std::reverse(body.begin(), body.end());
  Trace out = trace;
  out.body = std::move(body);
  return out;
}

}  // namespace fulmen::passes
