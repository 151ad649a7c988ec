#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Makes one operation of a linear layer and the cross-entropy of its results, where nothing else
// reads these and they are large: the operation computes them in parts and keeps none. Views, and a
// conversion to float32, may stand between. Only where the context says that there is who runs it.
Trace fuse_losses(const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
