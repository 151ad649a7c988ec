#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Removes the pure bound symbols whose results nobody reads.
//
// Kept always: effects, random numbers (the generator's state after the call equals eager's),
// in-place operations (write-backs among them), opaque symbols, of which nothing is known, and, in
// a trace that is not functional, what autograd counts as a use of a view. So it is sound on such
// traces, too. Drops every `del`, whose place may be wrong now.
Trace dead_code_elimination(const Trace& trace, PassContext& ctx);

// Whether a bound symbol of `symbol` may be removed when its results are not read.
bool is_removable(const Symbol& symbol);

}  // namespace fulmen::passes
