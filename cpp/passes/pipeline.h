#pragma once

#include <span>

#include "passes/transform.h"

namespace fulmen::passes {

// The compiler's passes, in order, up to the executors.
std::span<const Pass> pipeline();

// Runs the pipeline, with the users' transforms at their place in it.
Trace run_pipeline(const Trace& trace, PassContext& ctx, const Transforms& transforms = {});

// Frees what is no longer read: the last pass, after the executors have claimed and transforms have
// seen the optimized trace.
const Pass& last_pass();

}  // namespace fulmen::passes
