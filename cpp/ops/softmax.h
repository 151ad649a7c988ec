#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Softmax and its like.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_SOFTMAX_OPS(X) X(softmax) X(log_softmax) X(softmin)

#define X(name) extern const Symbol name;
FULMEN_SOFTMAX_OPS(X)
#undef X

}  // namespace fulmen::ops
