#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of pointwise.cpp. A row that is missing there is a link error, a name missing
// here an unused-constant warning.
#define FULMEN_POINTWISE_OPS(X) \
  X(add) X(sub) X(mul) X(div) X(neg) X(exp) X(tanh) X(relu) X(gelu) X(erf)

#define X(name) extern const Symbol name;
FULMEN_POINTWISE_OPS(X)
#undef X

}  // namespace fulmen::ops
