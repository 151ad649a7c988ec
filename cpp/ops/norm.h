#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of norm.cpp.
#define FULMEN_NORM_OPS(X)                                                                     \
  X(layer_norm)                                                                                \
  X(rms_norm)                                                                                  \
  X(group_norm) X(batch_norm) X(batch_norm_training) X(batch_norm_functional) X(instance_norm) \
      X(normalize) X(cosine_similarity) X(pairwise_distance) X(cdist)

#define X(name) extern const Symbol name;
FULMEN_NORM_OPS(X)
#undef X

}  // namespace fulmen::ops
