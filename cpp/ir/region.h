#pragma once

#include <memory>
#include <string_view>

#include "ir/trace.h"

namespace fulmen {

// Bound symbols that run as one: a program of its own, on proxies of its own. A call of its symbol
// is a bound symbol like any other; it decomposes into the region's. Lives in the context's arena.
//
// Note [Regions in text]
// A trace with such calls prints each region as a function before the trace's own:
//   def fusion0(x_1, y_1):
//     # x_1: f32[8]
//     # y_1: f32[8]
//     t2 = torch.mul(x_1, y_1)  # t2: f32[8]
//     return torch.exp(t2)
// so that the text runs, and reads back.
struct Region {
  std::weak_ptr<TraceContext> ctx;  // which holds the region
  std::span<const Proxy* const> inputs;
  std::span<const BoundSymbol* const> body;
  Arg output;  // a tensor, or a tuple of tensors
};

const Symbol& make_region_symbol(std::string_view name, const Region& region);
// Null for a symbol that is not a region's.
const Region* region_of(const Symbol& symbol);

// A call of a new region that computes what `body` does: reads `inputs`, defines `outputs`. The
// region gets fresh proxies for both.
const BoundSymbol* make_region_call(const std::shared_ptr<TraceContext>& holder,
                                    std::string_view name,
                                    std::span<const BoundSymbol* const> body,
                                    std::span<const Proxy* const> inputs,
                                    std::span<const Proxy* const> outputs);

// The region as a trace, its output always a tuple.
Trace region_trace(const Region& region, std::string_view name);

}  // namespace fulmen
