#pragma once

#include <string_view>

#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ir/trace.h"

namespace fulmen {

// The rules of a region's symbol.
struct RegionRules : SymbolRules {
  const Subprogram* program = nullptr;

  Arg meta(Call& in) override;
  bool has_decomposition() const override { return true; }
  Arg decompose(Call& in) override;
};

// Records the program with results of its own, after `map`, which its inputs are in and its results
// are added to; returns its output.
Arg inline_program(Builder& builder, const Subprogram& program, Substitution& map);

// A region: bound symbols that run as one. A call of its symbol is a bound symbol like any other,
// and decomposes into the region's; it lives in the context's arena. In text a region is a function
// that the trace calls by name:
//   def fusion0(x_1, y_1):
//     # x_1: f32[8]
//     # y_1: f32[8]
//     t2 = torch.mul(x_1, y_1)  # t2: f32[8]
//     return torch.exp(t2)
// Its output is a tensor, or a tuple of tensors.
const Symbol& make_region_symbol(const Subprogram& program,
                                 std::shared_ptr<RegionRules> rules = nullptr);
// Null for a symbol that is not a region's.
const Subprogram* region_of(const Symbol& symbol);

// A call of a new region that computes what `body` does: reads `inputs`, defines `outputs`. The
// region gets fresh proxies for both, and `name`, made unique.
const BoundSymbol* make_region_call(TraceContext& ctx, std::string_view name,
                                    std::span<const BoundSymbol* const> body,
                                    std::span<const Proxy* const> inputs,
                                    std::span<const Proxy* const> outputs,
                                    std::shared_ptr<RegionRules> rules = nullptr);

// The tensors that a region returns.
Args region_outputs(const Arg& output);

}  // namespace fulmen
