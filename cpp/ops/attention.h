#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of attention.cpp.
#define FULMEN_ATTENTION_OPS(X) \
  X(scaled_dot_product_attention) X(scaled_dot_product_attention_dropout)

#define X(name) extern const Symbol name;
FULMEN_ATTENTION_OPS(X)
#undef X

}  // namespace fulmen::ops
