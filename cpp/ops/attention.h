#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of attention.cpp.
#define FULMEN_ATTENTION_OPS(X) \
  X(scaled_dot_product_attention) X(scaled_dot_product_attention_dropout)

// The rows of attention_gradient.cpp.
#define FULMEN_ATTENTION_BACKWARD_OPS(X) X(flash_attention) X(flash_attention_backward)

#define X(name) extern const Symbol name;
FULMEN_ATTENTION_OPS(X)
FULMEN_ATTENTION_BACKWARD_OPS(X)
#undef X

// Whether ATen's flash kernel for CPU runs the call; otherwise its products and softmax.
bool attention_takes_flash(const Call& in);
// The call in symbols that have gradients.
Arg attention_steps(Call& in);

}  // namespace fulmen::ops
