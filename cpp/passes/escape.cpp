#include "passes/escape.h"

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
    } else if (b.symbol->has(kInplace)) {
      for (size_t i = 0; i < b.args.size(); ++i) {
        const TensorProxy* t = b.args[i].tensor();
        if (t && b.symbol->info->schema.params[i].mutated) written_.set(storage_of(t), true);
      }
    }
  }
}

}  // namespace fulmen::passes
