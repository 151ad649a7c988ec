#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Writes the backward of each `fulmen.autograd.gradients` into the trace: a call that computes a
// loss, its gradients and an update of the parameters becomes one program without autograd.
//
// Throws Unsupported where the program must leave a graph behind, or an operation has no rule.
Trace expand_gradients(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
