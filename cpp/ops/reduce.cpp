#include "ops/reduce.h"

#include "ops/shape.h"

namespace fulmen::meta {
namespace {

// One flag for each dimension of the input: whether it is reduced.
SmallVec<bool, 8> reduced(const Call& in) {
  const size_t n = in.type("input").ndim();
  const bool has_dim = in.symbol().info->schema.index("dim") >= 0;
  const auto dims = has_dim ? in.integers("dim") : SmallVec<int64_t, 6>{};
  SmallVec<bool, 8> mask(n, dims.empty());
  for (const int64_t d : dims) {
    const int64_t wrapped = wrap_dim(in, d, n);
    if (n == 0) continue;
    if (mask[wrapped]) {
      in.fail(ErrorKind::kRuntime, "dim-repeated", "dim ", wrapped,
              " appears multiple times in the list of dims");
    }
    mask[wrapped] = true;
  }
  return mask;
}

}  // namespace

Arg reduce(Call& in, DType dtype) {
  const TensorType& input = in.type("input");
  const auto mask = reduced(in);
  const bool keepdim = in.symbol().info->schema.index("keepdim") >= 0 && in.flag("keepdim");
  Dims shape;
  for (size_t i = 0; i < input.ndim(); ++i) {
    if (!mask[i]) {
      shape.push_back(input.shape[i]);
    } else if (keepdim) {
      shape.push_back(Dim(1));
    }
  }
  return fresh(in, input, shape, dtype);
}

Dim reduced_count(const Call& in) {
  const auto mask = reduced(in);
  Dim count = 1;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) count = count * in.type("input").shape[i];
  }
  return count;
}

Arg spread(Call& in, const Arg& result) {
  const auto mask = reduced(in);
  const bool keepdim = in.symbol().info->schema.index("keepdim") >= 0 && in.flag("keepdim");
  Arg wide = result;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] && !keepdim) wide = ops::unsqueeze(wide, static_cast<int64_t>(i));
  }
  return ops::expand(wide, in.dims_arg(in.type("input").shape));
}

bool reduces_nothing(const Call& in) {
  const auto mask = reduced(in);
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] && is_zero(in.type("input").shape[i])) return true;
  }
  return false;
}

}  // namespace fulmen::meta
