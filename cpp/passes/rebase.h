#pragma once

#include "ir/rewrite.h"

namespace fulmen::passes {

// map.apply, where a view whose base was renamed gets results that name the new base; they join the
// map.
const BoundSymbol* apply_rebased(Substitution& map, TraceContext& ctx, const BoundSymbol& bsym);

}  // namespace fulmen::passes
