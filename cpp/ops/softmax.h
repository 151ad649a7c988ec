#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Softmax and its like. See pointwise.h for the list.
#define FULMEN_SOFTMAX_OPS(X) \
  X(softmax) X(log_softmax) X(softmin)

#define X(name) extern const Symbol name;
FULMEN_SOFTMAX_OPS(X)
#undef X

}  // namespace fulmen::ops
