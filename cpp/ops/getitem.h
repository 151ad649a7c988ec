#pragma once

#include "ir/builder.h"

namespace fulmen::ops {

// Records Python's `tensor[index]` as eager executes it, and returns its result: a chain of views,
// then torch.ops.aten.index for index tensors. The result is never the tensor itself.
// Throws Unsupported for masks, whose result's shape depends on the data, and for lists.
Arg getitem(Builder& builder, const Arg& tensor, const Arg& index);

// Records `tensor[index] = value`: views, then a copy, a fill or index_put_ into the last one.
// Returns the in-place operation's result, which aliases `tensor`.
Arg setitem(Builder& builder, const Arg& tensor, const Arg& index, const Arg& value);

}  // namespace fulmen::ops
