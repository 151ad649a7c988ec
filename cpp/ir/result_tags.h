#pragma once

#include "ir/symbol.h"

namespace fulmen {

// A Tag beside those of symbol.h: of several results only the first has a gradient; the others are
// statistics and the like.
inline constexpr uint32_t kFirstDifferentiable = 1 << 12;

}  // namespace fulmen
