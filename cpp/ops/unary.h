#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// Functions of one tensor, element by element.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_UNARY_OPS(X)                                                                        \
  X(abs)                                                                                           \
  X(neg) X(positive) X(reciprocal) X(square) X(sqrt) X(rsqrt) X(exp) X(exp2) X(expm1) X(log)       \
      X(log2) X(log10) X(log1p) X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh)       \
          X(tanh) X(asinh) X(acosh) X(atanh) X(sinc) X(sigmoid) X(logit) X(ceil) X(floor) X(round) \
              X(round_decimals) X(trunc) X(frac) X(sign) X(sgn) X(signbit) X(isnan) X(isinf)       \
                  X(isfinite) X(isposinf) X(isneginf) X(isreal) X(nan_to_num) X(deg2rad)           \
                      X(rad2deg) X(angle) X(conj_physical) X(conj) X(resolve_conj) X(resolve_neg)  \
                          X(logical_not) X(bitwise_not) X(convert) X(sigmoid_backward) X(tanh_backward) X(logit_backward)

#define X(name) extern const Symbol name;
FULMEN_UNARY_OPS(X)
#undef X

Args sinc_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
