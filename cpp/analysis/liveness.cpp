#include "analysis/liveness.h"

#include "ir/control.h"

namespace fulmen {

std::unordered_map<const Proxy*, size_t> last_uses(const Trace& trace) {
  std::unordered_map<const Proxy*, size_t> last;
  last.reserve(trace.inputs.size() + trace.body.size());
  for (size_t i = 0; i < trace.body.size(); ++i) {
    const BoundSymbol& b = *trace.body[i];
    if (b.symbol == &del_last_used) continue;
    for (const Arg& a : b.args) for_each_proxy(a, [&](const Proxy* p) { last[p] = i; });
    for_each_proxy(b.output, [&](const Proxy* p) { last[p] = i; });
  }
  for_each_proxy(trace.output, [&](const Proxy* p) { last[p] = trace.body.size(); });
  return last;
}

}  // namespace fulmen
