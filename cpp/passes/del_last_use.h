#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Frees every tensor right after the last bound symbol that reads it, or that made it when nobody
// does. Inputs belong to the caller and results to whoever called: neither is freed.
Trace del_last_use(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
