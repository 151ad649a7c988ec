#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Computes equal pure calls once: the same symbol on the same arguments with results of the same
// types. Needs a functional trace, where no write can come between the two.
//
// Never merged: random numbers, effects (none is crossed either), in-place and opaque symbols; nor
// two results that both leave the program, because the caller could write to one and see it in the
// other.
Trace common_subexpression_elimination(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
