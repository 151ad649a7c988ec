#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row, in the order in which the overloads of one callable are tried.
#define FULMEN_GATHER_OPS(X)                                                                  \
  X(gather)                                                                                   \
  X(take)                                                                                     \
  X(take_along_dim) X(index_select) X(index) X(bucketize) X(bucketize_scalar) X(searchsorted) \
      X(searchsorted_scalar) X(isin) X(isin_scalar) X(one_hot) X(masked_scatter_backward)
#define FULMEN_SCATTER_OPS(X)                                                               \
  X(scatter)                                                                                \
  X(scatter_value)                                                                          \
  X(scatter_add) X(scatter_reduce) X(index_add) X(index_copy) X(index_fill) X(index_reduce) \
      X(index_fill_tensor) X(index_put) X(put) X(masked_fill) X(masked_fill_tensor)         \
          X(masked_scatter) X(select_scatter) X(slice_scatter) X(diagonal_scatter)          \
              X(as_strided_scatter) X(copy) X(fill) X(fill_tensor) X(zero)
#define FULMEN_INDEXING_OPS(X) \
  FULMEN_GATHER_OPS(X)         \
  FULMEN_SCATTER_OPS(X)

#define X(name) extern const Symbol name;
FULMEN_INDEXING_OPS(X)
#undef X

// The common shape of index tensors; they raise IndexError where other operands RuntimeError.
Dims broadcast_indices(Call& in, std::span<const Dim> a, std::span<const Dim> b);

}  // namespace fulmen::ops
