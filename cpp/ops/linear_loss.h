#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of linear_loss.cpp.
#define FULMEN_LINEAR_LOSS_OPS(X) \
  X(linear_cross_entropy) X(linear_cross_entropy_forward) X(scaled_gradient)

#define X(name) extern const Symbol name;
FULMEN_LINEAR_LOSS_OPS(X)
#undef X

}  // namespace fulmen::ops
