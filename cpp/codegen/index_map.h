#pragma once

#include <string>
#include <vector>

#include "codegen/form.h"
#include "ir/builder.h"
#include "support/cat.h"

namespace fulmen::codegen {

// Why a region has no loops; caught by `lower`.
struct Refusal {
  std::string reason;
};
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Refusal{cat(parts...)};
}

// An index of a dimension: start + Σ factor * loop.
struct Affine {
  int64_t start = 0;
  Strides factors;  // one per loop; empty: all zero

  friend bool operator==(const Affine&, const Affine&) = default;
};
using IndexMap = std::vector<Affine>;  // one per dimension

using Sizes = SmallVec<int64_t, 6>;
Sizes sizes_of(const TensorType& t);

// The map of an operand of `own` sizes, which broadcasts to what `map` indexes.
IndexMap broadcast_map(const IndexMap& map, const TensorType& result, const TensorType& own);
// Each dimension of the base is one of the view, or several that were split from it; dimensions
// of size 1 come and go. Others are refused.
IndexMap reshape_map(const Sizes& base, const Sizes& view, const IndexMap& map);
bool splits_only(const Sizes& base, const Sizes& view);
// Of the base that a view is read through. `builder`: for the calls that views are.
IndexMap view_map(const BoundSymbol& bsym, Form form, const TensorType& base,
                  const TensorType& view, const IndexMap& map, Builder& builder);
// Of one of the slices that a split gives.
IndexMap part_map(const BoundSymbol& bsym, const Proxy* part, const IndexMap& map,
                  Builder& builder);

}  // namespace fulmen::codegen
