#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ir/trace.h"

namespace fulmen::passes {

// The last bound symbol of `body` on the way to `results` whose backward reads a tensor, among its
// arguments and its results, for which was_written(tensor, place of the bound symbol) holds: eager
// has saved it, and refuses the backward. Null if there is none. Where no rule says what a backward
// reads, nothing counts as read.
const BoundSymbol* find_spoiled(
    const std::shared_ptr<TraceContext>& ctx, const std::vector<const BoundSymbol*>& body,
    std::span<const Arg> results,
    const std::function<bool(const TensorProxy*, size_t place)>& was_written);

}  // namespace fulmen::passes
