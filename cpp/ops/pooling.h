#pragma once

#include "ir/builder.h"
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

// The rows of pooling_gradient.cpp.
#define FULMEN_POOLING_BACKWARD_OPS(X)                                                   \
  X(max_pool2d_with_indices_backward)                                                    \
  X(max_pool3d_with_indices_backward) X(avg_pool2d_backward) X(avg_pool3d_backward)      \
      X(adaptive_avg_pool2d_backward) X(adaptive_avg_pool3d_backward)                    \
          X(adaptive_max_pool2d_with_indices) X(adaptive_max_pool2d_backward)

#define X(name) extern const Symbol name;
FULMEN_POOLING_OPS(X)
FULMEN_POOLING_BACKWARD_OPS(X)
#undef X

// Gradient rules of the rows in pooling.cpp, by the rank in the row's name.
Args max_pool_vjp(Call& in, const Arg& out, const Arg& grad);
Args avg_pool_vjp(Call& in, const Arg& out, const Arg& grad);
Args adaptive_avg_pool_vjp(Call& in, const Arg& out, const Arg& grad);
Args max_unpool_vjp(Call& in, const Arg& out, const Arg& grad);
Arg max_pool_steps(Call& in);
Arg max_pool1d_with_indices_steps(Call& in);
Arg avg_pool1d_steps(Call& in);
Arg adaptive_avg_pool1d_steps(Call& in);
Arg adaptive_max_pool2d_steps(Call& in);

}  // namespace fulmen::ops
