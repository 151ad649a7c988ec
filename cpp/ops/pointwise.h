#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Arithmetic of two tensors.
// One name per row of the source file, in the order in which overloads are tried: a row that is
// missing there is a link error, a name missing here an unused-constant warning.
#define FULMEN_POINTWISE_OPS(X)                                                                    \
  X(add)                                                                                           \
  X(add_alpha) X(add_number_first) X(sub) X(sub_alpha) X(sub_number_first) X(rsub) X(rsub_alpha)   \
      X(mul) X(mul_number_first) X(div) X(div_mode) X(rdiv) X(div_number_first) X(floor_divide)    \
          X(floor_divide_number_first) X(rfloordiv) X(remainder) X(remainder_number_first) X(rmod) \
              X(fmod) X(maximum) X(minimum) X(fmax) X(fmin) X(atan2) X(hypot) X(copysign)          \
                  X(nextafter) X(logaddexp) X(logaddexp2) X(ldexp) X(heaviside) X(gcd) X(lcm)

#define X(name) extern const Symbol name;
FULMEN_POINTWISE_OPS(X)
#undef X

}  // namespace fulmen::ops
