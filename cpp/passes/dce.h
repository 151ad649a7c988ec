#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Removes the pure bound symbols whose results nobody reads.
//
// Kept always: effects, random numbers (the generator's state after the call equals eager's),
// in-place operations (write-backs among them), and opaque symbols, of which nothing is known. So
// it is sound on traces that are not functional, too. Drops every `del`, whose place may be wrong
// now.
Trace dead_code_elimination(const Trace& trace, PassContext& ctx);

// Whether a bound symbol of `symbol` may be removed when its results are not read.
bool is_removable(const Symbol& symbol);

}  // namespace fulmen::passes
