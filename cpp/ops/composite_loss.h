#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of composite_loss.cpp.
#define FULMEN_COMPOSITE_LOSS_OPS(X) X(triplet_margin_loss) X(poisson_nll_loss)

#define X(name) extern const Symbol name;
FULMEN_COMPOSITE_LOSS_OPS(X)
#undef X

}  // namespace fulmen::ops
