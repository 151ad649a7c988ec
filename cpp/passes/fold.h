#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Replaces calls whose result is known without running them: arithmetic with a neutral number,
// inverse views, views of views, casts that a cast undoes, copies of what nobody writes any more.
// Only where the result has exactly eager's bits and metadata, so x + 0 stays (it turns -0.0 into
// 0.0) and x + (-0.0) goes. Needs a functional trace. One row per rule, in fold.cpp.
Trace constant_folding(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
