#pragma once

#include <string>
#include <vector>

#include "codegen/loop_program.h"
#include "ir/trace.h"

namespace fulmen::codegen {

// The loops that compute a region: a trace whose inputs are tensors and numbers and whose output is
// a tensor, or a tuple of tensors. Composite operations are decomposed. Where torch.cat takes its
// elements from one tensor or another there is a program for each part of the elements. Nothing,
// with the reason in `why`, for a region that is not one nest of loops.
std::vector<LoopProgram> lower(const Trace& region, std::string* why);

// Whether regions can read through this view, which is then an index map.
bool is_fused_view(const BoundSymbol& bsym);

// Whether `bsym` may be part of a region: what it computes can be said by lanes, reductions and
// views. Empty, or the reason why not. `under_autograd`: PyTorch's autograd must see it run, if it
// needs gradients.
std::string fusion_refusal(const BoundSymbol& bsym, const std::shared_ptr<TraceContext>& ctx,
                           bool under_autograd = true);

}  // namespace fulmen::codegen
