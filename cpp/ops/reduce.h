#pragma once

#include "ops/meta.h"

// Metadata of reductions. They read the parameters `input`, and `dim` and `keepdim` where the
// schema has them; no dim, None and an empty list stand for all dimensions.
namespace fulmen::meta {

// The contiguous result, of another dtype than the input's maybe. Checks the dimensions as eager.
Arg reduce(Call& in, DType dtype);
// How many elements each result is made of.
Dim reduced_count(const Call& in);
// True when a reduced dimension has no elements.
bool reduces_nothing(const Call& in);

// `result`, a tensor of the reduction's result shape, as a view of the input's shape.
Arg spread(Call& in, const Arg& result);

}  // namespace fulmen::meta
