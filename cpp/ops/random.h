#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row, in the order in which the overloads of one callable are tried.
#define FULMEN_DROPOUT_OPS(X)                                                                 \
  X(dropout)                                                                                  \
  X(dropout_train) X(dropout1d) X(dropout2d) X(dropout3d) X(feature_dropout) X(alpha_dropout) \
      X(alpha_dropout_train)
#define FULMEN_SAMPLE_OPS(X)                                                                \
  X(bernoulli)                                                                              \
  X(bernoulli_p) X(bernoulli_tensor) X(rand) X(randn) X(randint) X(randint_low) X(randperm) \
      X(rand_like) X(randn_like) X(randint_like) X(randint_like_low) X(normal_tensor_float) \
          X(normal_float_tensor) X(normal_tensor_tensor) X(normal) X(multinomial)
#define FULMEN_FILL_RANDOM_OPS(X)                                                         \
  X(uniform)                                                                              \
  X(normal_functional) X(exponential) X(log_normal) X(geometric) X(cauchy) X(random_from) \
      X(random_to) X(random)
#define FULMEN_RANDOM_OPS(X) \
  FULMEN_DROPOUT_OPS(X)      \
  FULMEN_SAMPLE_OPS(X)       \
  FULMEN_FILL_RANDOM_OPS(X)

#define X(name) extern const Symbol name;
FULMEN_RANDOM_OPS(X)
#undef X

}  // namespace fulmen::ops
