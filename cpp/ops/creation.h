#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::meta {

// A created tensor: dtype and device from the call's keywords, else `dtype` and the default device
// (for new_* and *_like: the first tensor's). Leaves layouts, pinned memory and requires_grad=True
// to the fallback.
TensorType created(Call& in, std::span<const Dim> shape, DType dtype);
// Leaves a number to the fallback when `dtype` may not hold it: eager refuses most of these.
void require_fits(const Call& in, const Arg& number, DType dtype);

}  // namespace fulmen::meta

namespace fulmen::ops {

// One name per row, in the order in which the overloads of one callable are tried.
#define FULMEN_CREATION_OPS(X)                                                                \
  X(zeros)                                                                                    \
  X(ones) X(empty) X(full) X(zeros_like) X(ones_like) X(empty_like) X(full_like) X(new_zeros) \
      X(new_ones) X(new_empty) X(new_full) X(arange) X(arange_start) X(arange_start_step)     \
          X(linspace) X(logspace) X(eye) X(eye_m) X(empty_strided) X(new_empty_strided)       \
              X(scalar_tensor) X(complex) X(polar) X(tril_indices) X(triu_indices)

#define X(name) extern const Symbol name;
FULMEN_CREATION_OPS(X)
#undef X

// A 0-d tensor of `number`, in `like`'s dtype and on its device.
Arg scalar_tensor_like(Builder& builder, const Arg& number, const TensorType& like);

}  // namespace fulmen::ops
