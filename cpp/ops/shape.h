#pragma once

#include <span>

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::meta {

// A view of `base` with another shape and other strides.
Arg view_of(Call& in, const TensorProxy& base, Dims shape, Dims strides);
// The shape that view(shape) means for a tensor of `count` elements: -1 is inferred.
Dims infer_shape(const Call& in, std::span<const Dim> shape, Dim count);
// The strides of expand(): 0 where a size of 1 grows, and the resolved shape in `shape`.
Dims expand_strides(const Call& in, const TensorType& t, Dims& shape);
TensorType select_type(const TensorType& t, size_t dim);
// t[start:stop:step] along `dim`, with Python's clamping.
TensorType slice_type(const TensorType& t, size_t dim, int64_t start, int64_t stop,
                      int64_t step = 1);
TensorType permuted(const TensorType& t, std::span<const size_t> order);
TensorType unsqueezed(const TensorType& t, size_t dim);
TensorType diagonal_type(const Call& in, const TensorType& t, int64_t offset, int64_t dim1,
                         int64_t dim2);
// What torch.cat makes of tensors of these types, memory format included.
TensorType cat_type(const Call& in, std::span<const TensorType* const> inputs, int64_t dim);
// The strides of empty(shape) in a memory format, or of empty_like(t) for preserve_format and None.
Dims format_strides(const Call& in, const TensorType& t, const Arg& memory_format);
Dims format_strides(const Call& in, std::span<const Dim> shape, const Arg& memory_format);
// The strides of the copy that keeps its argument's own, unless that overlaps itself.
Dims clone_strides(const TensorType& t);

}  // namespace fulmen::meta

namespace fulmen::ops {

// One name per row, in the order in which the overloads of one callable are tried.
#define FULMEN_VIEW_OPS(X)                                                                         \
  X(view)                                                                                          \
  X(view_dtype) X(view_as) X(reshape) X(reshape_as) X(flatten) X(unflatten) X(ravel) X(expand)     \
      X(expand_as) X(broadcast_to) X(broadcast_tensors) X(meshgrid) X(atleast_1d) X(atleast_2d)    \
          X(atleast_3d) X(as_strided) X(view_as_real) X(view_as_complex) X(real) X(imag) X(detach) X(data) \
              X(alias)
#define FULMEN_PERMUTE_OPS(X)                                                           \
  X(permute)                                                                            \
  X(transpose) X(t) X(numpy_T) X(matrix_H) X(mT) X(mH) X(adjoint) X(movedim) X(squeeze) \
      X(squeeze_dim) X(squeeze_dims) X(unsqueeze)
#define FULMEN_SLICE_OPS(X)                                                                     \
  X(select)                                                                                     \
  X(narrow) X(slice) X(split) X(split_sizes) X(split_with_sizes) X(chunk) X(tensor_split)       \
      X(tensor_split_indices) X(hsplit) X(hsplit_indices) X(vsplit) X(vsplit_indices) X(dsplit) \
          X(dsplit_indices) X(unbind) X(unfold) X(diagonal)
#define FULMEN_JOIN_OPS(X) X(cat) X(stack) X(hstack) X(vstack) X(dstack) X(column_stack)
#define FULMEN_REARRANGE_OPS(X)                                                                 \
  X(clone)                                                                                      \
  X(contiguous) X(repeat) X(tile) X(repeat_interleave) X(roll) X(flip) X(fliplr) X(flipud)      \
      X(rot90) X(tril) X(triu) X(diag) X(diag_embed) X(pad) X(constant_pad_nd) X(pixel_shuffle) \
          X(pixel_unshuffle) X(im2col) X(col2im)
#define FULMEN_VIEW_BACKWARD_OPS(X)                                                         \
  X(slice_backward)                                                                         \
  X(select_backward) X(diagonal_backward) X(unfold_backward) X(reflection_pad1d_backward)   \
      X(reflection_pad2d_backward) X(reflection_pad3d_backward) X(replication_pad1d_backward) \
          X(replication_pad2d_backward) X(replication_pad3d_backward)
#define FULMEN_SHAPE_OPS(X) \
  FULMEN_VIEW_OPS(X)        \
  FULMEN_PERMUTE_OPS(X)     \
  FULMEN_SLICE_OPS(X)       \
  FULMEN_JOIN_OPS(X)        \
  FULMEN_REARRANGE_OPS(X)   \
  FULMEN_VIEW_BACKWARD_OPS(X)

#define X(name) extern const Symbol name;
FULMEN_SHAPE_OPS(X)
#undef X

// clone(memory_format=torch.contiguous_format).
Arg contiguous_clone(const Arg& x);

}  // namespace fulmen::ops
