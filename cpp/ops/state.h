#pragma once

#include "ir/trace.h"

namespace fulmen::ops {

extern const Symbol set_grad_enabled;
extern const Symbol set_inference_mode;

// From here on in the program autograd records operations, or does not.
const BoundSymbol* grad_mode_change(TraceContext& ctx, bool enabled,
                                    decltype(BoundSymbol::source) source = nullptr);

}  // namespace fulmen::ops
