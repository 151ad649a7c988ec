#include "ir/type.h"

#include "support/cat.h"

namespace fulmen {

Dim numel(const TensorType& t) {
  Dim n = 1;
  for (const Dim d : t.shape) n = n * d;
  return n;
}

Dims contiguous_strides(std::span<const Dim> shape) {
  Dims strides(shape.size(), Dim(1));
  Dim step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    // PyTorch counts an empty dimension as 1 here.
    step = step * (is_zero(shape[i]) ? Dim(1) : shape[i]);
  }
  return strides;
}

bool is_contiguous(const TensorType& t) {
  Dim expected = 1;
  for (const Dim d : t.shape) {
    if (is_zero(d)) return true;
  }
  for (size_t i = t.ndim(); i-- > 0;) {
    if (is_one(t.shape[i])) continue;
    if (!(t.strides[i] == expected)) return false;
    expected = expected * t.shape[i];
  }
  return true;
}

void append(std::string& s, const TensorType& t) {
  const auto dims = [&](char open, std::span<const Dim> v, char close) {
    append(s, open);
    for (size_t i = 0; i < v.size(); ++i) {
      if (i) append(s, ", ");
      append(s, v[i]);
    }
    append(s, close);
  };
  append(s, short_name(t.dtype));
  dims('[', t.shape, ']');
  if (!(t.strides == contiguous_strides(t.shape))) dims('{', t.strides, '}');
  if (t.device != Device{}) append(s, cat(" ", to_string(t.device)));
  if (t.requires_grad) append(s, " grad");
}

}  // namespace fulmen
