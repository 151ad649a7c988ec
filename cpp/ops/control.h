#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// Runs `forward` on the inputs, without PyTorch's autograd, and returns its results (its first
// output; the second one is saved), joined to autograd by one node, which runs `backward` on what
// was saved and the gradients. `primal` is the forward in the form that was differentiated.
extern const Symbol differentiable;
// The gradients of `outputs` with respect to `inputs`, of what the program has computed up to here:
// `outputs[i].backward(seeds[i])` without the accumulation. `earlier[i]` are the values that
// `inputs[i]`, a parameter, had before it was updated: what was computed from them counts as well.
// The pass of the same name writes them.
extern const Symbol gradients;
// Where the backward of such a call begins: stays where it computes values of the forward again.
extern const Symbol backward_begins;
// A value whose graph a backward has consumed: what follows it back raises eager's error.
extern const Symbol freed;
// Raises if a hook on one of these leaves would have to run.
extern const Symbol check_leaves;

}  // namespace fulmen::ops
