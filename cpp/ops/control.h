#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// Runs `forward` on the inputs, without PyTorch's autograd, and returns its results (its first
// output; the second one is saved), joined to autograd by one node, which runs `backward` on what
// was saved and the gradients. `primal` is the forward in the form that was differentiated.
extern const Symbol differentiable;

}  // namespace fulmen::ops
