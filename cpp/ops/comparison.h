#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// Comparisons.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_COMPARISON_OPS(X)                                                                \
  X(eq)                                                                                         \
  X(eq_number_first) X(ne) X(ne_number_first) X(lt) X(lt_number_first) X(le) X(le_number_first) \
      X(gt) X(gt_number_first) X(ge) X(ge_number_first) X(isclose)

#define X(name) extern const Symbol name;
FULMEN_COMPARISON_OPS(X)
#undef X

}  // namespace fulmen::ops
