#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of embedding.cpp.
#define FULMEN_EMBEDDING_OPS(X) X(embedding) X(embedding_weight_first)

#define X(name) extern const Symbol name;
FULMEN_EMBEDDING_OPS(X)
X(embedding_dense_backward)
#undef X

}  // namespace fulmen::ops
