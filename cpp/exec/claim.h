#pragma once

#include "exec/compilation.h"
#include "passes/pass.h"

namespace fulmen::exec {

// Hands every bound symbol to the first executor that runs it: as called, or else its
// decomposition, top-down. What a fusion executor can run is left to it, and when the operator
// executors are done, its regions are made; what is in none goes to the executors after it.
// Throws UserError "no-executor" for a bound symbol that nobody runs. A bound symbol that is
// claimed already stays as it is.
Trace transform_for_execution(const Trace& trace, const Compilation& compilation,
                              passes::PassContext& ctx, ClaimReport& report);

// The same with the chosen operator executors alone: what they do not take stays as it is.
Trace claim_operators(const Trace& trace, const Compilation& compilation, passes::PassContext& ctx,
                      ClaimReport& report);

// Gives each bound symbol that needs gradients, and whose first executor to take it brings one of
// its own, that gradient; see with_own_gradient.
Trace claim_gradients(const Trace& trace, const Compilation& compilation, passes::PassContext& ctx);

}  // namespace fulmen::exec
