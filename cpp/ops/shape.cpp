#include "ops/shape.h"

#include "ops/families.h"
#include "ops/meta.h"

namespace fulmen {
namespace meta {

Arg view_of(Call& in, const TensorProxy& base, Dims shape, Dims strides) {
  TensorType out;
  out.dtype = base.type.dtype;
  out.device = base.type.device;
  out.shape = std::move(shape);
  out.strides = std::move(strides);
  return in.make_view(std::move(out), base);
}

Dims infer_shape(const Call& in, std::span<const Dim> shape, Dim count) {
  Dims out(shape);
  std::optional<size_t> unknown;
  Dim known = 1;
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t size = out[i].value_or(0);
    if (size == -1) {
      if (unknown) in.fail(ErrorKind::kRuntime, "reshape", "only one dimension can be inferred");
      unknown = i;
    } else if (size < 0) {
      in.fail(ErrorKind::kRuntime, "reshape", "invalid shape dimension ", size);
    } else {
      known = known * out[i];
    }
  }
  const auto invalid = [&] {
    std::string size;
    append(size, count);
    in.fail(ErrorKind::kRuntime, "reshape", "shape ", shape_text(shape),
            " is invalid for input of size ", size);
  };
  if (!unknown) {
    if (known == count) return out;
    if (!known.is_concrete() || !count.is_concrete()) in.unsupported("symbolic element count");
    invalid();
  }
  if (is_zero(known)) {
    if (!is_zero(count)) invalid();
    in.fail(ErrorKind::kRuntime, "reshape", "cannot reshape tensor of 0 elements into shape ",
            shape_text(shape), " because the unspecified dimension size -1 can be any value and ",
            "is ambiguous");
  }
  if (known.is_concrete() && count.is_concrete() && count.value() % known.value() != 0) invalid();
  out[*unknown] = known == count ? Dim(1) : floor_div(count, known);
  return out;
}

Dims expand_strides(const Call& in, const TensorType& t, Dims& shape) {
  const size_t n = shape.size(), own = t.ndim();
  if (n < own) {
    in.fail(ErrorKind::kRuntime, "expand", "the number of sizes provided (", n,
            ") must be greater or equal to the number of dimensions in the tensor (", own, ")");
  }
  Dims strides(n, Dim(0));
  for (size_t i = n; i-- > 0;) {
    const bool is_new = i < n - own;
    const Dim size = is_new ? Dim(1) : t.shape[i - (n - own)];
    if (own) strides[i] = is_new ? shape[i + 1] * strides[i + 1] : t.strides[i - (n - own)];
    if (shape[i].value_or(0) == -1) {
      if (is_new) {
        in.fail(ErrorKind::kRuntime, "expand",
                "the expanded size of the tensor (-1) isn't allowed in a leading, non-existing "
                "dimension ",
                i);
      }
      shape[i] = size;
    }
    if (size == shape[i]) continue;
    if (!is_one(size)) {
      if (!size.is_concrete() || !shape[i].is_concrete()) in.unsupported("symbolic sizes");
      in.fail(ErrorKind::kRuntime, "expand", "the expanded size of the tensor (", shape[i].value(),
              ") must match the existing size (", size.value(), ") at non-singleton dimension ", i,
              "; target sizes: ", shape_text(shape), ", tensor sizes: ", shape_text(t.shape));
    }
    if (shape[i].value_or(0) < 0) {
      in.fail(ErrorKind::kRuntime, "expand", "negative size ", shape[i].value());
    }
    strides[i] = 0;
  }
  return strides;
}

TensorType select_type(const TensorType& t, size_t dim) {
  TensorType out = t;
  out.shape.erase(dim);
  out.strides.erase(dim);
  return out;
}

TensorType slice_type(const TensorType& t, size_t dim, int64_t start, int64_t stop, int64_t step) {
  TensorType out = t;
  const int64_t size = t.shape[dim].value();
  if (start < 0) start += size;
  if (stop < 0) stop += size;
  start = std::clamp<int64_t>(start, 0, size);
  stop = std::clamp<int64_t>(stop, start, size);
  out.shape[dim] = stop == start ? 0 : (stop - start - 1) / step + 1;
  out.strides[dim] = t.strides[dim] * Dim(step);
  return out;
}

TensorType permuted(const TensorType& t, std::span<const size_t> order) {
  TensorType out = t;
  for (size_t i = 0; i < order.size(); ++i) {
    out.shape[i] = t.shape[order[i]];
    out.strides[i] = t.strides[order[i]];
  }
  return out;
}

TensorType unsqueezed(const TensorType& t, size_t dim) {
  TensorType out = t;
  const Dim stride = dim < t.ndim() ? t.shape[dim] * t.strides[dim] : Dim(1);
  out.shape.insert(dim, Dim(1));
  out.strides.insert(dim, stride);
  return out;
}

TensorType diagonal_type(const Call& in, const TensorType& t, int64_t offset, int64_t dim1,
                         int64_t dim2) {
  const size_t a = wrap_dim(in, dim1, t.ndim()), b = wrap_dim(in, dim2, t.ndim());
  if (a == b) {
    in.fail(ErrorKind::kRuntime, "same-dims", "diagonal dimensions cannot be identical ", dim1,
            ", ", dim2);
  }
  const int64_t rows = t.shape[a].value(), columns = t.shape[b].value();
  const int64_t size =
      offset >= 0 ? std::min(rows, columns - offset) : std::min(rows + offset, columns);
  TensorType out = t;
  for (const size_t d : {std::max(a, b), std::min(a, b)}) {
    out.shape.erase(d);
    out.strides.erase(d);
  }
  out.shape.push_back(std::max<int64_t>(size, 0));
  out.strides.push_back(t.strides[a] + t.strides[b]);
  return out;
}

Dims format_strides(const Call& in, std::span<const Dim> shape, const Arg& memory_format) {
  if (memory_format.is_none() || memory_format.text() == "contiguous_format") {
    return contiguous_strides(shape);
  }
  const std::string_view format = memory_format.text();
  const size_t rank = format == "channels_last" ? 4 : format == "channels_last_3d" ? 5 : 0;
  if (!rank) in.unsupported("memory format ", format);
  if (shape.size() != rank) {
    in.fail(ErrorKind::kRuntime, "memory-format", "required rank ", rank, " tensor to use ", format,
            " format");
  }
  return channels_last_strides(shape);
}

Dims format_strides(const Call& in, const TensorType& t, const Arg& memory_format) {
  if (memory_format.is_none() || memory_format.text() == "preserve_format") {
    return preserved_strides(t);
  }
  return format_strides(in, t.shape, memory_format);
}

Dims clone_strides(const TensorType& t) {
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (is_zero(t.strides[i]) && t.shape[i].value_or(2) > 1) return preserved_strides(t);
  }
  return t.strides;
}

}  // namespace meta

namespace ops {

std::span<const Symbol* const> shape_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SHAPE_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace ops
}  // namespace fulmen
