#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Operations that carry a value along a dimension.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_SCAN_OPS(X) X(cumsum) X(cumprod) X(logcumsumexp) X(cummax) X(cummin) X(diff) X(cumprod_backward)

#define X(name) extern const Symbol name;
FULMEN_SCAN_OPS(X)
#undef X

}  // namespace fulmen::ops
