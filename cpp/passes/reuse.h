#pragma once

#include "passes/pass.h"

namespace fulmen::passes {

// Lets operations that ATen runs write into operands that nobody reads again, and into the inputs
// that their results are copied to at the end: fresh memory costs more than most operations. Of a
// claimed trace, and only in programs that autograd does not record.
Trace reuse_operands(const Trace& trace, PassContext& ctx);
// The same for a program that runs below autograd, whatever its types say.
Trace reuse_below_autograd(const Trace& trace);

}  // namespace fulmen::passes
