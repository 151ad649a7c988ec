#pragma once

#include <span>

#include "ir/builder.h"

// Rules for the metadata of results, shared by the rows. Sources: ATen's TensorIterator.cpp,
// TypeProperties.cpp, ExpandUtils.cpp and TensorUtils.cpp, whose results these equal.
namespace fulmen::meta {

using TensorList = SmallVec<const TensorProxy*, 8>;

// --- dtypes ---
// torch.result_type of tensors and numbers: dimensioned tensors, then 0-d tensors, then numbers.
DType result_type(const Call& in, std::span<const Arg> operands);
// float32 (the default dtype) for bool and integers; other types unchanged.
DType float_dtype(const Call& in, DType t);
// The dtype that a Python number has as a tensor.
DType scalar_dtype(const Call& in, const Arg& number);
// bool and integer sums accumulate in int64.
DType sum_dtype(DType t);

// --- shapes ---
// Wraps a negative dimension; raises eager's IndexError when out of range. A 0-d tensor has one
// dimension for this purpose.
int64_t wrap_dim(const Call& in, int64_t dim, size_t ndim);
Dims broadcast(const Call& in, std::span<const TensorProxy* const> tensors);
Dims broadcast(const Call& in, std::span<const Dim> a, std::span<const Dim> b);
bool same_shape(std::span<const Dim> a, std::span<const Dim> b);
std::string shape_text(std::span<const Dim> shape);  // "(2, 3)"

// --- strides ---
// The strides that TensorIterator gives a fresh output of `shape` for these (not yet broadcast)
// operands. `with_scalar`: a Python number takes part, so that not all operands have one shape.
Dims pointwise_strides(std::span<const TensorType* const> operands, std::span<const Dim> shape,
                       bool with_scalar = false);
// empty_like's: the tensor's own when non-overlapping and dense, else as TensorIterator would.
Dims preserved_strides(const TensorType& t);
bool is_non_overlapping_and_dense(const TensorType& t);
// Contiguous in torch.channels_last (4-d) or channels_last_3d (5-d).
bool is_channels_last_contiguous(const TensorType& t);
Dims channels_last_strides(std::span<const Dim> shape);
// at::suggest_memory_format: true if the strides look like channels_last (4-d) or its 3-d form
// (5-d).
bool suggests_channels_last(const TensorType& t);
// The strides that view(shape) would have; nothing if the tensor can't be viewed so.
std::optional<Dims> view_strides(const TensorType& t, std::span<const Dim> shape);

// --- devices ---
// The device of the result: all tensors on one device, 0-d CPU tensors join any. Raises
// eager's RuntimeError otherwise.
Device common_device(const Call& in, std::span<const TensorProxy* const> tensors);

// --- whole metas ---
// All Tensor, Tensor|Scalar and Scalar parameters are operands; result dtype by promotion
// (kFloatResult: integers become the default dtype), TensorIterator's strides.
Arg pointwise(Call& in);
// As pointwise, with a bool result.
Arg comparison(Call& in);
// As pointwise with the given operands and result dtype.
Arg pointwise_with(Call& in, std::span<const Arg> operands, DType result);
// The first tensor's metadata, strides as empty_like's, with another dtype if given.
Arg like(Call& in, std::optional<DType> dtype = {});
// A contiguous result on the device of `like`.
Arg fresh(Call& in, const TensorType& like, std::span<const Dim> shape, DType dtype);
// All tensors in the arguments, collections included.
TensorList tensors_of(std::span<const Arg> args);

}  // namespace fulmen::meta
