#pragma once

#include <vector>

#include "ir/trace.h"

namespace fulmen::passes {

// What somebody recorded in place of a bound symbol that is to be differentiated in their way: the
// forward, and what becomes of the gradients of its results.
struct OwnGradient {
  std::vector<const BoundSymbol*> body;
  Arg output;  // of the structure of the bound symbol's
  // (a tensor of `output`, what stands for its gradient in the body).
  std::vector<std::pair<const Proxy*, const Proxy*>> gradients;
  // (an argument, its gradient).
  std::vector<std::pair<const Proxy*, Arg>> puts;
};

// The call of a symbol that computes `bsym` by the part of the body that reads no gradient, has the
// other part as its vjp, and also returns what that reads. Throws Unsupported, with the reason, for
// a body that is not of this form.
const BoundSymbol* with_own_gradient(const std::shared_ptr<TraceContext>& ctx,
                                     const BoundSymbol& bsym, const OwnGradient& own);

}  // namespace fulmen::passes
