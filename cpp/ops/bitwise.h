#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Bitwise and logical operations.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_BITWISE_OPS(X)                                                              \
  X(bitwise_and)                                                                           \
  X(bitwise_and_number_first) X(bitwise_or) X(bitwise_or_number_first) X(bitwise_xor)      \
      X(bitwise_xor_number_first) X(bitwise_left_shift) X(bitwise_left_shift_number_first) \
          X(rlshift) X(bitwise_right_shift) X(bitwise_right_shift_number_first) X(rrshift) \
              X(logical_and) X(logical_or) X(logical_xor)

#define X(name) extern const Symbol name;
FULMEN_BITWISE_OPS(X)
#undef X

}  // namespace fulmen::ops
