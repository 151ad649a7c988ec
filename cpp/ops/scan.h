#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Operations that carry a value along a dimension. See pointwise.h for the list.
#define FULMEN_SCAN_OPS(X) \
  X(cumsum) X(cumprod) X(logcumsumexp) X(cummax) X(cummin) X(diff)

#define X(name) extern const Symbol name;
FULMEN_SCAN_OPS(X)
#undef X

}  // namespace fulmen::ops
