#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Powers.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_POWER_OPS(X) X(pow) X(pow_scalar) X(rpow) X(float_power) X(float_power_scalar)

#define X(name) extern const Symbol name;
FULMEN_POWER_OPS(X)
#undef X

}  // namespace fulmen::ops
