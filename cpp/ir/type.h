#pragma once

#include <string>

#include "ir/device.h"
#include "ir/dim.h"
#include "ir/dtype.h"

namespace fulmen {

// The metadata of a strided tensor: all that the compiler knows before the program runs.
// Strides are in elements, exactly as eager PyTorch's result has them.
struct TensorType {
  DType dtype = DType::kFloat32;
  Device device;
  bool requires_grad = false;
  Dims shape;
  Dims strides;

  size_t ndim() const { return shape.size(); }
  friend bool operator==(const TensorType& a, const TensorType& b) = default;
};

Dim numel(const TensorType& t);
Dims contiguous_strides(std::span<const Dim> shape);
// Tensor.is_contiguous(), with size-1 dimensions and empty tensors treated as PyTorch does.
bool is_contiguous(const TensorType& t);

// `f32[2, 3]`, then what differs from a contiguous CPU tensor without gradient:
// `f32[2, 3]{1, 2} cuda:0 grad`.
void append(std::string& s, const TensorType& t);

}  // namespace fulmen
