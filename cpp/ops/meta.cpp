#include "ops/meta.h"

#include <optional>

namespace fulmen::meta {
namespace {

// ATen's combine_categories: `higher` decides unless `lower` is of a higher category.
DType combine(std::optional<DType> higher, std::optional<DType> lower, DType fallback) {
  if (!higher) return lower.value_or(fallback);
  if (!lower || is_complex(*higher)) return *higher;
  if (is_floating(*higher)) {
    return is_complex(*lower) ? complex_dtype(*higher) : *higher;
  }
  if (*higher == DType::kBool || is_floating(*lower) || is_complex(*lower)) {
    return promote(*higher, *lower);
  }
  return *higher;
}

std::optional<DType> promote_opt(std::optional<DType> a, DType b) { return a ? promote(*a, b) : b; }

bool is_operand(const Param& p) {
  return p.kind == ParamKind::kTensor || p.kind == ParamKind::kScalar ||
         p.kind == ParamKind::kTensorOrScalar;
}

// Only concrete values can be ordered; symbolic ones compare as large.
int64_t order_key(Dim d) { return d.value_or(INT64_MAX / 2); }

}  // namespace

DType scalar_dtype(const Call& in, const Arg& number) {
  const DType float_type = const_cast<Call&>(in).builder().default_dtype;
  switch (number.kind()) {
    case Arg::Kind::kBool: return DType::kBool;
    case Arg::Kind::kInt:
    case Arg::Kind::kSymInt: return DType::kInt64;
    case Arg::Kind::kFloat: return float_type;
    case Arg::Kind::kComplex: return complex_dtype(float_type);
    case Arg::Kind::kProxy: {
      const NumberProxy* n = as_number(number.proxy());
      if (!n) break;
      switch (n->type) {
        case NumberType::kBool: return DType::kBool;
        case NumberType::kInt: return DType::kInt64;
        case NumberType::kFloat: return float_type;
        case NumberType::kComplex: return complex_dtype(float_type);
      }
      break;
    }
    default: break;
  }
  in.unsupported("not a number");
}

DType result_type(const Call& in, std::span<const Arg> operands) {
  std::optional<DType> dimensioned, zero_dim, number;
  for (const Arg& a : operands) {
    if (const TensorProxy* t = a.tensor()) {
      auto& slot = t->type.ndim() ? dimensioned : zero_dim;
      slot = promote_opt(slot, t->type.dtype);
    } else if (a.is_number()) {
      number = promote_opt(number, scalar_dtype(in, a));
    }
  }
  std::optional<DType> low;
  if (zero_dim || number) low = combine(zero_dim, number, DType::kFloat32);
  return combine(dimensioned, low, DType::kFloat32);
}

DType float_dtype(const Call& in, DType t) {
  return is_integral(t) ? const_cast<Call&>(in).builder().default_dtype : t;
}

DType sum_dtype(DType t) { return is_integral(t) ? DType::kInt64 : t; }

int64_t wrap_dim(const Call& in, int64_t dim, size_t ndim) {
  const int64_t n = ndim ? static_cast<int64_t>(ndim) : 1;
  if (dim < -n || dim >= n) {
    in.fail(ErrorKind::kIndex, "dim-out-of-range",
            "Dimension out of range (expected to be in range of [", -n, ", ", n - 1, "], but got ",
            dim, ")");
  }
  return dim < 0 ? dim + n : dim;
}

std::string shape_text(std::span<const Dim> shape) {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) append(s, ", ");
    append(s, shape[i]);
  }
  append(s, shape.size() == 1 ? ",)" : ")");
  return s;
}

bool same_shape(std::span<const Dim> a, std::span<const Dim> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Dims broadcast(const Call& in, std::span<const Dim> a, std::span<const Dim> b) {
  const size_t n = std::max(a.size(), b.size());
  Dims out(n, Dim(1));
  for (size_t i = 0; i < n; ++i) {
    const Dim x = i < n - a.size() ? Dim(1) : a[i - (n - a.size())];
    const Dim y = i < n - b.size() ? Dim(1) : b[i - (n - b.size())];
    if (x == y || is_one(y)) {
      out[i] = x;
    } else if (is_one(x)) {
      out[i] = y;
    } else if (!x.is_concrete() || !y.is_concrete()) {
      in.unsupported("broadcast of symbolic sizes");
    } else {
      in.fail(ErrorKind::kRuntime, "broadcast", "shapes ", shape_text(a), " and ", shape_text(b),
              " do not broadcast; got sizes ", x.value(), " and ", y.value(), " at dimension ",
              static_cast<int64_t>(i), "; expected equal sizes, or 1");
    }
  }
  return out;
}

Dims broadcast(const Call& in, std::span<const TensorProxy* const> tensors) {
  Dims out;
  for (const TensorProxy* t : tensors) out = broadcast(in, out, t->type.shape);
  return out;
}

bool is_channels_last_contiguous(const TensorType& t) {
  if (t.ndim() != 4 && t.ndim() != 5) return false;
  Dim expected = 1;
  const auto check = [&](size_t d) {
    if (is_one(t.shape[d])) return true;
    if (!(t.strides[d] == expected)) return false;
    expected = expected * t.shape[d];
    return true;
  };
  if (!check(1)) return false;
  for (size_t d = t.ndim() - 1; d >= 2; --d) {
    if (!check(d)) return false;
  }
  return check(0);
}

Dims channels_last_strides(std::span<const Dim> shape) {
  Dims strides(shape.size(), Dim(1));
  Dim step = 1;
  const auto put = [&](size_t d) {
    strides[d] = step;
    step = step * (is_zero(shape[d]) ? Dim(1) : shape[d]);
  };
  put(1);
  for (size_t d = shape.size() - 1; d >= 2; --d) put(d);
  put(0);
  return strides;
}

bool suggests_channels_last(const TensorType& t) {
  if (t.ndim() != 4 && t.ndim() != 5) return false;
  Dim min = 0;
  if (is_zero(t.strides[1])) return false;
  const auto check = [&](size_t d) {
    if (is_zero(t.shape[d])) return false;
    if (order_key(t.strides[d]) < order_key(min)) return false;
    // N111 and NCHW contiguous with C = 1 stay contiguous.
    if (d == 0 && min == t.strides[1]) return false;
    min = t.strides[d];
    if (!is_one(t.shape[d])) min = min * t.shape[d];
    return true;
  };
  if (!check(1)) return false;
  for (size_t d = t.ndim() - 1; d >= 2; --d) {
    if (!check(d)) return false;
  }
  return check(0);
}

bool is_non_overlapping_and_dense(const TensorType& t) {
  if (is_contiguous(t)) return true;  // an empty tensor is, whatever its strides
  if (t.ndim() == 1) return order_key(t.shape[0]) < 2 || is_one(t.strides[0]);
  SmallVec<size_t, 6> perm;
  for (size_t i = 0; i < t.ndim(); ++i) perm.push_back(i);
  std::stable_sort(perm.begin(), perm.end(), [&](size_t a, size_t b) {
    const bool a_small = order_key(t.shape[a]) < 2, b_small = order_key(t.shape[b]) < 2;
    if (a_small || b_small) return !a_small && b_small;
    return order_key(t.strides[a]) < order_key(t.strides[b]);
  });
  Dim expected = 1;
  for (const size_t d : perm) {
    if (order_key(t.shape[d]) < 2) return true;
    if (!(t.strides[d] == expected)) return false;
    expected = expected * t.shape[d];
  }
  return true;
}

Dims pointwise_strides(std::span<const TensorType* const> operands, std::span<const Dim> shape,
                       bool with_scalar) {
  bool same = !with_scalar;
  for (const TensorType* t : operands) same = same && same_shape(t->shape, shape);
  if (same && !operands.empty()) {
    bool contiguous = true, channels_last = true, dense = true;
    for (const TensorType* t : operands) {
      contiguous = contiguous && is_contiguous(*t);
      channels_last = channels_last && t->ndim() == 4 && is_channels_last_contiguous(*t);
      dense = dense && is_non_overlapping_and_dense(*t) && t->strides == operands.front()->strides;
    }
    if (contiguous) return contiguous_strides(shape);
    if (channels_last) return channels_last_strides(shape);
    if (dense) return operands.front()->strides;
  }
  const size_t n = shape.size();
  // perm[0] is the fastest dimension.
  SmallVec<size_t, 6> perm;
  for (size_t i = n; i-- > 0;) perm.push_back(i);
  const auto stride_of = [&](const TensorType& t, size_t d) -> int64_t {
    const size_t missing = n - t.ndim();
    if (d < missing) return 0;
    const size_t own = d - missing;
    if (is_one(t.shape[own]) && !is_one(shape[d])) return 0;
    return order_key(t.strides[own]);
  };
  const auto should_swap = [&](size_t d0, size_t d1) {
    for (const TensorType* t : operands) {
      const int64_t s0 = stride_of(*t, d0), s1 = stride_of(*t, d1);
      if (s0 == 0 || s1 == 0) continue;
      if (s0 < s1) return -1;
      if (s0 > s1) return 1;
      if (order_key(shape[d0]) > order_key(shape[d1])) return 1;
    }
    return 0;
  };
  for (size_t i = 1; i < n; ++i) {
    size_t d1 = i;
    for (size_t d0 = i; d0-- > 0;) {
      const int order = should_swap(perm[d0], perm[d1]);
      if (order > 0) {
        std::swap(perm[d0], perm[d1]);
        d1 = d0;
      } else if (order < 0) {
        break;
      }
    }
  }
  Dims strides(n, Dim(1));
  Dim step = 1;
  bool identity = true;
  for (size_t i = 0; i < n; ++i) {
    identity = identity && perm[i] == n - 1 - i;
    strides[perm[i]] = step;
    step = step * shape[perm[i]];
  }
  // TensorIterator leaves the default order to empty(), whose strides count empty sizes as 1.
  return identity ? contiguous_strides(shape) : strides;
}

Dims preserved_strides(const TensorType& t) {
  if (is_non_overlapping_and_dense(t)) return t.strides;
  const TensorType* operand = &t;
  return pointwise_strides({&operand, 1}, t.shape);
}

std::optional<Dims> view_strides(const TensorType& t, std::span<const Dim> shape) {
  const Dim count = numel(t);
  if (is_zero(count)) {
    // ATen: an empty tensor keeps its strides for its own shape, else gets contiguous ones.
    if (same_shape(t.shape, shape)) return t.strides;
    return contiguous_strides(shape);
  }
  if (t.ndim() == 0) return Dims(shape.size(), Dim(1));
  Dims out(shape.size(), Dim(1));
  int64_t view_d = static_cast<int64_t>(shape.size()) - 1;
  Dim chunk_base = t.strides.back();
  Dim tensor_numel = 1, view_numel = 1;
  for (int64_t d = static_cast<int64_t>(t.ndim()) - 1; d >= 0; --d) {
    tensor_numel = tensor_numel * t.shape[d];
    const bool chunk_ends =
        d == 0 || (!is_one(t.shape[d - 1]) && !(t.strides[d - 1] == tensor_numel * chunk_base));
    if (!chunk_ends) continue;
    while (view_d >= 0 &&
           (order_key(view_numel) < order_key(tensor_numel) || is_one(shape[view_d]))) {
      out[view_d] = view_numel * chunk_base;
      view_numel = view_numel * shape[view_d];
      --view_d;
    }
    if (!(view_numel == tensor_numel)) return std::nullopt;
    if (d > 0) {
      chunk_base = t.strides[d - 1];
      tensor_numel = 1;
      view_numel = 1;
    }
  }
  if (view_d != -1) return std::nullopt;
  return out;
}

Device common_device(const Call& in, std::span<const TensorProxy* const> tensors) {
  const TensorProxy* first = nullptr;
  for (const TensorProxy* t : tensors) {
    if (!first || (first->type.ndim() == 0 && first->type.device.type == DeviceType::kCPU &&
                   t->type.device.type != DeviceType::kCPU)) {
      first = t;
    }
  }
  if (!first) return const_cast<Call&>(in).builder().default_device;
  for (const TensorProxy* t : tensors) {
    if (t->type.device == first->type.device) continue;
    if (t->type.ndim() == 0 && t->type.device.type == DeviceType::kCPU) continue;
    in.fail(ErrorKind::kRuntime, "device-mismatch",
            "Expected all tensors to be on the same device, but found at least two devices, ",
            to_string(first->type.device), " and ", to_string(t->type.device), "!");
  }
  return first->type.device;
}

TensorList tensors_of(std::span<const Arg> args) {
  TensorList out;
  for (const Arg& a : args) {
    for_each_proxy(a, [&](const Proxy* p) {
      if (const TensorProxy* t = as_tensor(p)) out.push_back(t);
    });
  }
  return out;
}

Arg pointwise_with(Call& in, std::span<const Arg> operands, DType result) {
  const TensorList tensors = tensors_of(operands);
  bool with_scalar = false;
  for (const Arg& a : operands) with_scalar = with_scalar || a.is_number();
  TensorType out;
  out.dtype = result;
  out.device = common_device(in, tensors);
  out.shape = broadcast(in, tensors);
  SmallVec<const TensorType*, 8> types;
  for (const TensorProxy* t : tensors) types.push_back(&t->type);
  out.strides = pointwise_strides(types, out.shape, with_scalar && !out.shape.empty());
  return in.make(std::move(out));
}

namespace {
Args operands_of(const Call& in) {
  Args operands;
  const auto& params = in.symbol().info->schema.params;
  for (size_t i = 0; i < params.size(); ++i) {
    // Keyword-only numbers (alpha, value) scale an operand; they do not promote.
    if (is_operand(params[i]) && !params[i].keyword_only && !in[i].is_none()) {
      operands.push_back(in[i]);
    }
  }
  return operands;
}
}  // namespace

Arg pointwise(Call& in) {
  const Args operands = operands_of(in);
  DType dtype = result_type(in, operands);
  if (in.symbol().has(kFloatResult)) dtype = float_dtype(in, dtype);
  return pointwise_with(in, operands, dtype);
}

Arg comparison(Call& in) {
  const Args operands = operands_of(in);
  result_type(in, operands);  // throws where the operands have no common type
  return pointwise_with(in, operands, DType::kBool);
}

Arg like(Call& in, std::optional<DType> dtype) {
  const TensorProxy* t = in[0].tensor();
  if (!t) in.unsupported("the first argument is not a tensor");
  TensorType out = t->type;
  out.strides = preserved_strides(t->type);
  if (dtype) out.dtype = *dtype;
  return in.make(std::move(out));
}

Arg fresh(Call& in, const TensorType& like, std::span<const Dim> shape, DType dtype) {
  TensorType out;
  out.dtype = dtype;
  out.device = like.device;
  out.shape = Dims(shape);
  out.strides = contiguous_strides(shape);
  return in.make(std::move(out));
}

}  // namespace fulmen::meta
