#include "analysis/memory.h"

#include <algorithm>

#include "analysis/cost.h"
#include "ir/control.h"
#include "ir/region.h"
#include "ops/control.h"

namespace fulmen {

void MemoryUse::hold(const Proxy* p) {
  if (!as_tensor(p)) return;
  const Proxy* storage = storage_of(p);
  if (ignored_.contains(storage)) return;
  if (holders_[storage]++) return;
  add(bytes_of(storage));
}

void MemoryUse::add(int64_t bytes) {
  now_ += bytes;
  peak_ = std::max(peak_, now_);
}

void MemoryUse::drop(const Proxy* p) {
  const auto it = holders_.find(storage_of(p));
  if (it == holders_.end() || it->second == 0 || --it->second) return;
  now_ -= bytes_of(it->first);
}

void MemoryUse::ignore(const Proxy* p) { ignored_.insert(storage_of(p)); }

void MemoryUse::run(std::span<const Proxy* const> inputs, std::span<const BoundSymbol* const> body,
                    const Arg& output, bool consumes) {
  std::unordered_set<const Proxy*> mine;
  if (consumes) mine.insert(inputs.begin(), inputs.end());
  for (const BoundSymbol* b : body) {
    if (b->symbol == &del_last_used) {
      for (const Arg& a : b->args) {
        for_each_proxy(a, [&](const Proxy* p) {
          if (mine.erase(p)) drop(p);
        });
      }
      continue;
    }
    if (b->symbol == &ops::differentiable) {
      const Subprogram& forward = *b->arg("forward").program();
      run(forward.inputs, forward.body, forward.output, false);
      for_each_proxy(b->output, [&](const Proxy* p) { mine.insert(p); });
      continue;
    }
    for_each_proxy(b->output, [&](const Proxy* p) {
      if (mine.insert(p).second) hold(p);
    });
  }
  for_each_proxy(output, [&](const Proxy* p) {
    if (!mine.contains(p)) hold(p);  // an input, or twice the same
    mine.erase(p);
  });
  for (const Proxy* p : mine) drop(p);
}

}  // namespace fulmen
