#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of interpolate.cpp.
#define FULMEN_INTERPOLATE_OPS(X) X(interpolate) X(grid_sample)

// The rows of interpolate_gradient.cpp.
#define FULMEN_INTERPOLATE_BACKWARD_OPS(X)                                                  \
  X(upsample_nearest1d_backward)                                                            \
  X(upsample_nearest2d_backward) X(upsample_nearest3d_backward)                             \
      X(upsample_nearest_exact1d_backward) X(upsample_nearest_exact2d_backward)             \
          X(upsample_nearest_exact3d_backward) X(upsample_linear1d_backward)                \
              X(upsample_bilinear2d_backward) X(upsample_bicubic2d_backward)                \
                  X(upsample_trilinear3d_backward) X(grid_sampler_2d_backward)              \
                      X(grid_sampler_3d_backward) X(grid_sampler_2d) X(grid_sampler_3d)

#define X(name) extern const Symbol name;
FULMEN_INTERPOLATE_OPS(X)
FULMEN_INTERPOLATE_BACKWARD_OPS(X)
#undef X

Args interpolate_vjp(Call& in, const Arg& out, const Arg& grad);
Args grid_sample_vjp(Call& in, const Arg& out, const Arg& grad);
// Mode 'area', which is adaptive pooling.
Arg interpolate_steps(Call& in);

}  // namespace fulmen::ops
