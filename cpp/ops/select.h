#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Selection, bounds and combinations of three tensors.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_SELECT_OPS(X)                                                                       \
  X(where)                                                                                         \
  X(where_method) X(clamp) X(clamp_tensor) X(clamp_min) X(clamp_max) X(lerp_scalar) X(lerp_tensor) \
      X(addcmul) X(addcdiv)

#define X(name) extern const Symbol name;
FULMEN_SELECT_OPS(X)
#undef X

}  // namespace fulmen::ops
