#pragma once

#include "kernels/product.h"

namespace fulmen::kernels {

// The cross-entropy of linear scores, x · weightᵀ + bias, in float32 and in parts of rows, so that
// only the scores of one part exist at a time.
struct LinearCrossEntropy {
  int64_t rows = 0, features = 0, classes = 0;
  Operand input, weight;            // (rows, features), (classes, features)
  Operand bias;                     // over columns, or no data
  const int64_t* target = nullptr;  // one class for each row, or `ignored`
  int64_t target_stride = 1, ignored = 0;
  bool mean = true;  // over the rows that are not ignored; else the sum
  // Gradients of the loss in float32, with contiguous rows; no data where they are not wanted.
  float *input_gradient = nullptr, *weight_gradient = nullptr, *bias_gradient = nullptr;
};

// Returns the loss. Targets are in range. `parts_bytes`: of the scores that exist at a time.
double linear_cross_entropy(const LinearCrossEntropy& loss, Isa isa, const Parallel& parallel,
                            int64_t parts_bytes);

}  // namespace fulmen::kernels
