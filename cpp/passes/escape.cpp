#include "passes/escape.h"

#include "ir/write_back.h"

namespace fulmen::passes {

Escapes::Escapes(const Trace& trace) {
  for_each_proxy(trace.output, [&](const Proxy* p) {
    results_.set(p, true);
    if (const TensorProxy* t = as_tensor(p)) reachable_.set(storage_of(t), true);
  });
  for (auto it = trace.body.rbegin(); it != trace.body.rend(); ++it) {
    const BoundSymbol& b = **it;
    if (b.symbol->has(kOpaque)) {
      bool seen = false;
      for_each_proxy(b.output, [&](const Proxy* p) {
        const TensorProxy* t = as_tensor(p);
        seen = seen || (t && is_reachable(t));
      });
      if (!seen) continue;
      for (const Arg& a : b.args) {
        for_each_proxy(a, [&](const Proxy* p) {
          if (const TensorProxy* t = as_tensor(p)) reachable_.set(storage_of(t), true);
        });
      }
    } else {
      for_each_written(b, [&](const Arg& a) {
        if (const TensorProxy* t = a.tensor()) written_.set(storage_of(t), true);
      });
    }
  }
}

void Escapes::join(const Arg& kept, const Arg& dropped) {
  if (kept.is_collection()) {
    for (size_t i = 0; i < kept.items().size(); ++i) join(kept.items()[i], dropped.items()[i]);
    return;
  }
  const TensorProxy* x = kept.tensor();
  const TensorProxy* y = dropped.tensor();
  if (!x || !y || x == y) return;
  if (is_result(y)) results_.set(x, true);
  if (is_reachable(y)) reachable_.set(storage_of(x), true);
}

}  // namespace fulmen::passes
