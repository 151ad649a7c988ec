#pragma once

#include <memory>
#include <vector>

#include "ir/trace.h"

namespace fulmen::codegen {

// What takes several nests of loops, as bound symbols that are one each: cross-entropy and nll_loss
// of a matrix, whose rows are reduced before their losses are. The last ones define `bsym`'s own
// results. Empty for everything else.
std::vector<const BoundSymbol*> opened(const BoundSymbol& bsym,
                                       const std::shared_ptr<TraceContext>& ctx);

}  // namespace fulmen::codegen
