#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of conv.cpp. `_padding` rows are the overloads with padding='same' or 'valid'.
#define FULMEN_CONV_OPS(X)                                                                      \
  X(conv1d)                                                                                     \
  X(conv2d) X(conv3d) X(conv1d_padding) X(conv2d_padding) X(conv3d_padding) X(conv_transpose1d) \
      X(conv_transpose2d) X(conv_transpose3d)

#define X(name) extern const Symbol name;
FULMEN_CONV_OPS(X)
#undef X

}  // namespace fulmen::ops
