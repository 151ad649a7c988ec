#pragma once

#include <span>

#include "passes/transform.h"

namespace fulmen::passes {

// The compiler's passes, in order, up to the executors.
std::span<const Pass> pipeline();

// Runs the pipeline, with the users' transforms at their place in it; the last pass is not run.
Trace run_pipeline(const Trace& trace, PassContext& ctx, const Transforms& transforms = {});

// Makes the regions of the context's fusion executor, before the executors claim.
const Pass& partition_pass();

// Frees what is no longer read: the last pass, after the executors have claimed and transforms have
// seen the optimized trace.
const Pass& last_pass();
// After the executors: operations that ATen runs write into what nobody reads again.
const Pass& reuse_pass();

}  // namespace fulmen::passes
