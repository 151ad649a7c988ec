#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of interpolate.cpp.
#define FULMEN_INTERPOLATE_OPS(X) X(interpolate) X(grid_sample)

#define X(name) extern const Symbol name;
FULMEN_INTERPOLATE_OPS(X)
#undef X

}  // namespace fulmen::ops
