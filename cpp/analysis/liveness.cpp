#include "analysis/liveness.h"

#include <unordered_set>

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

std::vector<const Proxy*> free_values(std::span<const BoundSymbol* const> body,
                                      std::span<const Proxy* const> known, const Arg& output) {
  std::unordered_set<const Proxy*> seen(known.begin(), known.end());
  std::vector<const Proxy*> found;
  const auto use = [&](const Proxy* p) {
    if (seen.insert(p).second) found.push_back(p);
  };
  for (const BoundSymbol* b : body) {
    for (const Arg& a : b->args) for_each_proxy(a, use);
    for_each_proxy(b->output, [&](const Proxy* p) { seen.insert(p); });
  }
  for_each_proxy(output, use);
  return found;
}

}  // namespace fulmen
