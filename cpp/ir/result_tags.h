#pragma once

#include "ir/symbol.h"

namespace fulmen {

// Tags beside those of symbol.h.
//
// Of several results only the first has a gradient; the others are
// statistics and the like.
inline constexpr uint32_t kFirstDifferentiable = 1 << 12;
// Of the other arguments only the metadata is read: the first one alone has a gradient.
inline constexpr uint32_t kOthersAreLike = 1 << 13;

}  // namespace fulmen
