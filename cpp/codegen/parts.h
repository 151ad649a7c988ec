#pragma once

#include <memory>
#include <vector>

#include "ir/trace.h"

namespace fulmen::codegen {

// What a bound symbol is made of inside a kernel: its decomposition, or for what PyTorch has a
// kernel of its own for, the same in operations that go over the elements: triangles by comparing
// indices, argmax() as the first index of the largest element, pad() by joining pieces. The last
// ones define `bsym`'s results. Empty where there is neither.
std::vector<const BoundSymbol*> parts_of(const std::shared_ptr<TraceContext>& ctx,
                                         const BoundSymbol& bsym);

// Whether each element is one of one of several operands, or a number: torch.cat, pad.
bool joins_pieces(const BoundSymbol& bsym);

}  // namespace fulmen::codegen
