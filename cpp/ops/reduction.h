#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Sums, products, norms and truth values over dimensions.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_REDUCTION_OPS(X)                                                                    \
  X(sum)                                                                                           \
  X(sum_dim) X(nansum) X(mean) X(mean_dim) X(nanmean) X(prod) X(prod_dim) X(all) X(all_dim) X(any) \
      X(any_dim) X(count_nonzero) X(logsumexp) X(linalg_vector_norm) X(norm)

#define X(name) extern const Symbol name;
FULMEN_REDUCTION_OPS(X)
#undef X

}  // namespace fulmen::ops
