#pragma once

#include <span>

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

// `backward`, which reads values of `forward`, with the bound symbols of `forward` that compute
// what is not in `available`, each before its first use. Random numbers are drawn from the states
// that `forward` noted. Its inputs are the values that it reads, then `seeds`.
Trace with_recomputation(const Trace& backward, std::span<const BoundSymbol* const> forward,
                         std::span<const Proxy* const> available,
                         std::span<const Proxy* const> seeds);

}  // namespace fulmen::passes
