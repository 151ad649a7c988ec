#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of norm.cpp and distance.cpp.
#define FULMEN_NORM_OPS(X)                                                                     \
  X(layer_norm)                                                                                \
  X(rms_norm)                                                                                  \
  X(group_norm) X(batch_norm) X(batch_norm_training) X(batch_norm_functional) X(instance_norm) \
      X(normalize) X(cosine_similarity) X(pairwise_distance) X(cdist)

// The rows of norm_backward.cpp.
#define FULMEN_NORM_BACKWARD_OPS(X)                                                            \
  X(native_layer_norm)                                                                         \
  X(native_layer_norm_backward) X(native_group_norm) X(native_group_norm_backward)             \
      X(native_batch_norm) X(native_batch_norm_backward) X(cdist_backward)

#define X(name) extern const Symbol name;
FULMEN_NORM_OPS(X)
FULMEN_NORM_BACKWARD_OPS(X)
#undef X

// Gradient rules of rows in norm.cpp.
Args batch_norm_vjp(Call& in, const Arg& out, const Arg& grad);
Args batch_norm_functional_vjp(Call& in, const Arg& out, const Arg& grad);
Arg batch_norm_with_stats(Call& in);
Arg group_norm_with_stats(Call& in);

}  // namespace fulmen::ops
