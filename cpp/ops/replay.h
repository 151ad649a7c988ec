#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// A copy of the state of a device's generator.
extern const Symbol random_state;
// Gives the generator another state, and returns the one that it had. Between two of these an
// operation draws the numbers again that it drew in the first state.
extern const Symbol exchange_random_state;

}  // namespace fulmen::ops
