#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Replaces in-place operations by their functional rows and a write-back per input: the trace
// becomes functional, see Note [Write-backs]. Values, metadata, aliasing among the results and
// gradients are those of the program run in order.
//
// A program for which that can't be said exactly (an opaque symbol that may write, two inputs that
// share storage, an input that changes its shape, …) is returned as it is, with a note of the
// reason: run in order it is always right, only slower to optimize.
Trace functionalize(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
