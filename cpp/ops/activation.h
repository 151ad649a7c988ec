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
// The rows of activation_backward.cpp: ATen's own gradient functions.
#define FULMEN_ACTIVATION_BACKWARD_OPS(X)                                                        \
  X(threshold_backward)                                                                          \
  X(hardtanh_backward) X(elu_backward) X(leaky_relu_backward) X(silu_backward) X(mish_backward)  \
      X(hardswish_backward) X(hardsigmoid_backward) X(gelu_backward) X(softplus_backward)        \
          X(hardshrink_backward) X(softshrink_backward) X(log_sigmoid_forward)                   \
              X(log_sigmoid_backward) X(glu_backward) X(prelu_kernel_backward)

#define X(name) extern const Symbol name;
FULMEN_ACTIVATION_OPS(X)
FULMEN_ACTIVATION_BACKWARD_OPS(X)
#undef X

}  // namespace fulmen::ops
