#pragma once

#include "ir/builder.h"

namespace fulmen::ops {

// Shape and strides of torch.einsum with one or two operands, as ATen's einsum computes them;
// Unsupported for an ellipsis, repeated labels within an operand and more operands.
Arg einsum_meta(Call& in);
// The product of batches that ATen makes of the same calls.
Arg einsum_steps(Call& in);

}  // namespace fulmen::ops
