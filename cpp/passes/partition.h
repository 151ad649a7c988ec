#pragma once

#include <functional>
#include <string>
#include <vector>

#include "passes/pass.h"

namespace fulmen::passes {

// What a fusion executor says of bound symbols and regions; an empty text means yes.
struct FusionRules {
  std::function<std::string(const BoundSymbol& bsym)> refusal;
  std::function<std::string(const Trace& region)> region_refusal;
  // Whether regions can read through this view.
  std::function<bool(const BoundSymbol& bsym)> is_view;
  // Whether each element of the result is one of one of several operands, as of torch.cat, or none.
  std::function<bool(const BoundSymbol& bsym)> joins_pieces;
  // What stands for a bound symbol that takes several regions; empty for all others.
  std::function<std::vector<const BoundSymbol*>(const BoundSymbol& bsym)> opened;
  // Also single operations that PyTorch runs in one kernel.
  bool single_operations = false;
  // Whether a region's tensors may have any shapes.
  bool any_shape = false;
  // The fewest bound symbols that are worth a region.
  size_t smallest = 1;
  // The name of the executor that claims the regions; empty: they are not claimed yet.
  std::string_view executor = {};
};

// Puts bound symbols that run as one kernel into regions: producers with their consumers wherever
// they stand, if they go over the same elements. No region depends on its own results, by way of
// what stands outside either. Near-linear in the length of the trace.
//
// Note [Stages]
// Every bound symbol gets a stage that never falls along a dependency, and rises where one leads
// from a symbol that may be fused to one that can't join it. Two symbols of one stage over the same
// elements are then only connected by way of symbols that can join them both, so that all of them,
// or any part that is cut off at a point of the original order, can be one region.
//
// The rules are ctx.fusion; without them nothing changes.
Trace partition(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
