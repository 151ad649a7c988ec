#pragma once

#include <optional>

#include "ir/trace.h"

namespace fulmen::passes {

// A view that shows a range of one dimension, with all of the others.
struct Window {
  int64_t dim, start, end, step;
  bool keeps_dim;  // false: one index, whose dimension is gone
};

// What `view`, the tensor `result` among the outputs of the bound symbol, shows of `base`; nothing
// for a view of another kind.
std::optional<Window> window_of(const BoundSymbol& view, const TensorProxy* result,
                                const TensorType& base);

// Records in the current builder the value of `base` after `value` was written to its view; null
// when that can't be said by a functional operation. Its strides may differ from base's.
const TensorProxy* write_through(const BoundSymbol& view, const TensorProxy* result,
                                 const TensorProxy* base, const TensorProxy* value);

}  // namespace fulmen::passes
