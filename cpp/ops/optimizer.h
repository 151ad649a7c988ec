#pragma once

#include "ir/symbol.h"

// Updates of many parameters at once, and the scaling of gradients. An update stands twice: as it
// is recorded, with the new values as results, and as it writes to its arguments, which the pass
// `reuse` makes of it where nobody reads the old values.
namespace fulmen::ops {

#define FULMEN_OPTIMIZER_OPS(X)                                     \
  X(fused_adam)                                                     \
  X(fused_adam_) X(fused_adamw) X(fused_adamw_) X(fused_sgd)        \
      X(fused_sgd_) X(fused_adagrad) X(fused_adagrad_)              \
      X(amp_check_and_unscale) X(amp_update_scale)

#define X(name) extern const Symbol name;
FULMEN_OPTIMIZER_OPS(X)
#undef X

}  // namespace fulmen::ops
