#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Extremes, order statistics and sorting.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_ORDERING_OPS(X)                                                                    \
  X(amax)                                                                                         \
  X(amin) X(aminmax) X(max) X(max_dim) X(max_other) X(min) X(min_dim) X(min_other) X(argmax)      \
      X(argmin) X(median) X(median_dim) X(nanmedian) X(nanmedian_dim) X(mode) X(kthvalue) X(topk) \
          X(sort) X(sort_stable) X(argsort) X(argsort_stable) X(msort)

#define X(name) extern const Symbol name;
FULMEN_ORDERING_OPS(X)
#undef X

}  // namespace fulmen::ops
