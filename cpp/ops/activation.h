#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Activation functions of torch.nn.functional.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_ACTIVATION_OPS(X)                                                                 \
  X(relu)                                                                                        \
  X(relu6) X(hardtanh) X(elu) X(selu) X(celu) X(leaky_relu) X(threshold) X(silu) X(mish)         \
      X(hardswish) X(hardsigmoid) X(gelu) X(softplus) X(hardshrink) X(softshrink) X(log_sigmoid) \
          X(softsign) X(tanhshrink) X(glu) X(prelu)

#define X(name) extern const Symbol name;
FULMEN_ACTIVATION_OPS(X)
#undef X

}  // namespace fulmen::ops
