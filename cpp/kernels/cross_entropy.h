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
  bool mean = true;               // over the rows that are not ignored; else the sum
  int64_t part_bytes = 56 << 20;  // of the scores that exist at a time, at most
  // Gradients of the loss in float32, with contiguous rows; no data where they are not wanted.
  float *input_gradient = nullptr, *weight_gradient = nullptr, *bias_gradient = nullptr;
};

// How many scores exist at a time.
int64_t num_scores(const LinearCrossEntropy& loss);

// Returns the loss. Targets are in range; `scores` has memory for `num_scores`.
double linear_cross_entropy(const LinearCrossEntropy& loss, float* scores, Isa isa,
                            const Parallel& parallel);

}  // namespace fulmen::kernels
