#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of pooling.cpp.
#define FULMEN_POOLING_OPS(X)                                                             \
  X(max_pool1d)                                                                           \
  X(max_pool2d)                                                                           \
  X(max_pool3d)                                                                           \
  X(avg_pool1d) X(avg_pool2d) X(avg_pool3d) X(adaptive_avg_pool1d) X(adaptive_avg_pool2d) \
      X(adaptive_avg_pool3d) X(adaptive_max_pool2d) X(max_pool1d_with_indices)            \
          X(max_pool2d_with_indices) X(max_pool3d_with_indices) X(max_unpool2d) X(max_unpool3d)

#define X(name) extern const Symbol name;
FULMEN_POOLING_OPS(X)
#undef X

}  // namespace fulmen::ops
