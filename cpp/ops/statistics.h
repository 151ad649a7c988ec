#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Variance and standard deviation.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_STATISTICS_OPS(X)                                                          \
  X(var)                                                                                  \
  X(var_dim) X(var_correction) X(standard_deviation) X(standard_deviation_dim)            \
      X(standard_deviation_correction) X(var_mean) X(var_mean_dim) X(var_mean_correction) \
          X(std_mean) X(std_mean_dim) X(std_mean_correction)

#define X(name) extern const Symbol name;
FULMEN_STATISTICS_OPS(X)
#undef X

}  // namespace fulmen::ops
