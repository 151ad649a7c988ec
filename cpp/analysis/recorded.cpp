#include "analysis/recorded.h"

#include "ops/state.h"

namespace fulmen {

bool is_recorded(const Trace& trace) {
  bool enabled = true;
  for (const BoundSymbol* b : trace.body) {
    if (b->symbol == &ops::set_inference_mode) return true;
    if (b->symbol == &ops::set_grad_enabled) {
      enabled = b->args[0].boolean();
      continue;
    }
    bool recorded = false;
    const bool updates = b->symbol->has(kInplace);
    for_each_proxy(b->output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      recorded = recorded || (t && t->type.requires_grad && (enabled || !updates));
    });
    if (recorded && b->symbol->name() != "freed") return true;
  }
  return false;
}

}  // namespace fulmen
