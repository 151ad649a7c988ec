#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Softmax and its like.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_SOFTMAX_OPS(X) X(softmax) X(log_softmax) X(softmin)

// ATen's form that gives rows of -inf zeros, and gradients.
#define FULMEN_SOFTMAX_BACKWARD_OPS(X) \
  X(safe_softmax) X(softmax_backward_data) X(log_softmax_backward_data)

#define X(name) extern const Symbol name;
FULMEN_SOFTMAX_OPS(X)
FULMEN_SOFTMAX_BACKWARD_OPS(X)
#undef X

}  // namespace fulmen::ops
