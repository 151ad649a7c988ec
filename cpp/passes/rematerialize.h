#pragma once

#include <optional>
#include <span>

#include "passes/autodiff.h"
#include "passes/pass.h"

namespace fulmen::passes {

// Decides what the forward of each region of autodiff saves, and what its backward computes again;
// the least memory by a minimum cut over both. Numbers are those that would have been saved.
//
// Without a memory budget, only what takes practically no time is computed again, and only from
// values that autodiff saves or that nobody outside of the region can write to. With one, as much
// as the budget needs. Values inside of activation checkpoints are never saved. See
// docs/autodiff.md.
Trace rematerialize(const Trace& trace, PassContext& ctx);

// A backward of a region, which reads nothing but what its forward saves.
struct RegionBackward {
  Trace trace;  // its inputs: some of the saved values, then the gradients that are given
  size_t num_saved;
};

// The backward of a region whose forward is `primal` and saves `saved`, for some of the gradients.
// None if it needs what was not saved.
std::optional<RegionBackward> region_backward(const Subprogram& primal, const GradRequest& request,
                                              std::span<const Proxy* const> saved);

// `backward`, which reads values of `forward`, with the bound symbols of `forward` that compute
// what is not in `available`, each before its first use. Random numbers are drawn from the states
// that `forward` noted. Its inputs are the values that it reads, then `seeds`.
Trace with_recomputation(const Trace& backward, std::span<const BoundSymbol* const> forward,
                         std::span<const Proxy* const> available,
                         std::span<const Proxy* const> seeds);

}  // namespace fulmen::passes
