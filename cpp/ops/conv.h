#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of conv.cpp. `_padding` rows are the overloads with padding='same' or 'valid'.
#define FULMEN_CONV_OPS(X)                                                                      \
  X(conv1d)                                                                                     \
  X(conv2d) X(conv3d) X(conv1d_padding) X(conv2d_padding) X(conv3d_padding) X(conv_transpose1d) \
      X(conv_transpose2d) X(conv_transpose3d)

#define X(name) extern const Symbol name;
FULMEN_CONV_OPS(X)
X(convolution_backward)
#undef X

// Gradients of all these rows; convolutions that pad the two sides differently are padded first.
Args convolution_vjp(Call& in, const Arg& out, const Arg& grad);
Arg padded_convolution(Call& in);

}  // namespace fulmen::ops
