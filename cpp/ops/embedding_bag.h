#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of embedding_bag.cpp.
#define FULMEN_EMBEDDING_BAG_OPS(X)                                                  \
  X(embedding_bag)                                                                   \
  X(embedding_bag_with_indices) X(embedding_bag_backward) X(embedding_bag_weights_backward)

#define X(name) extern const Symbol name;
FULMEN_EMBEDDING_BAG_OPS(X)
#undef X

}  // namespace fulmen::ops
