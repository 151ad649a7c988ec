#pragma once

#include "ir/symbol.h"

namespace fulmen {

// Scalar operations of the fusion backends; each backend has one exhaustive switch over them.
enum class Lane : uint8_t {
  kNone, kAdd, kSub, kMul, kDiv, kNeg, kExp, kTanh, kRelu, kErf,
};

}  // namespace fulmen
