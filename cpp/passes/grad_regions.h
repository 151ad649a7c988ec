#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Gathers what needs gradients into regions, each with a forward and a backward program
// (ops::differentiable). What autodiff has no rule for stays between the regions, under PyTorch's
// own autograd; so do write-backs, and results that are views, which autograd has to know as views.
// Needs a functional trace.
Trace differentiate_regions(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
