#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Writes the backward of each `fulmen.autograd.gradients` into the trace: a call that computes a
// loss, its gradients and an update of the parameters becomes one program without autograd.
//
// Throws Unsupported where the program must leave a graph behind, or an operation has no rule.
Trace expand_gradients(const Trace& trace, PassContext& ctx);

// The strides of what the last bound symbol of `trace`, a `fulmen.autograd.gradients`, gives: those
// that the operations of the backward have, as eager's torch.autograd.grad. One that is expanded
// counts as contiguous, so that it can be written. One list for each gradient; None where that
// can't be said.
Arg strides_of_gradients(const Trace& trace);

}  // namespace fulmen::passes
