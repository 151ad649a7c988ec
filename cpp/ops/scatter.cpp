#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/indexing_gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

Arg contiguous_like(Call& in) {
  const TensorType& t = in.type("input");
  return meta::fresh(in, t, t.shape, t.dtype);
}

// The result of an operation that writes into a copy with the tensor's own strides.
Arg written_copy(Call& in) {
  TensorType out = in.type("input");
  out.strides = meta::clone_strides(out);
  return in.make(out);
}

void require_same_dtype(Call& in, std::string_view source) {
  const TensorType &t = in.type("input"), &s = in.type(source);
  if (t.dtype != s.dtype) {
    in.fail(ErrorKind::kRuntime, "dtype-mismatch", "Expected self.dtype to be equal to ", source,
            ".dtype; got ", name(t.dtype), " and ", name(s.dtype));
  }
}

void require_index_dtype(Call& in, const TensorType& index) {
  if (index.dtype == DType::kInt64 || index.dtype == DType::kInt32) return;
  in.fail(ErrorKind::kRuntime, "index-dtype", "Expected dtype int32/int64 for index, got ",
          name(index.dtype));
}

// scatter and its kin: the index is no larger than the source, nor than the tensor but in `dim`.
Arg scatter_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  const TensorType* source = nullptr;
  if (in.symbol().info->schema.index("src") >= 0) {
    require_same_dtype(in, "src");
    source = &in.type("src");
  }
  if (!is_zero(numel(index))) {
    require_index_dtype(in, index);
    const size_t n = std::max<size_t>(t.ndim(), 1);
    bool fits = n == std::max<size_t>(index.ndim(), 1) &&
                (!source || n == std::max<size_t>(source->ndim(), 1));
    for (size_t i = 0; fits && i < index.ndim(); ++i) {
      const int64_t size = index.shape[i].value();
      const int64_t own = t.ndim() ? t.shape[i].value() : 1;
      fits = (i == d || size <= own) &&
             (!source || size <= (source->ndim() ? source->shape[i].value() : 1));
    }
    if (!fits) {
      in.fail(ErrorKind::kRuntime, "scatter", "Expected index ", meta::shape_text(index.shape),
              " to be no larger than self ", meta::shape_text(t.shape), " apart from dimension ", d,
              source ? " and to be no larger than src " : "",
              source ? meta::shape_text(source->shape) : std::string());
    }
  }
  return contiguous_like(in);
}

Arg scatter_reduce_meta(Call& in) {
  const std::string_view reduce = in.text("reduce");
  if (reduce != "sum" && reduce != "prod" && reduce != "mean" && reduce != "amax" &&
      reduce != "amin") {
    in.fail(ErrorKind::kRuntime, "scatter-reduce",
            "reduce argument must be either sum, prod, mean, amax or amin, got ", reduce);
  }
  return scatter_meta(in);
}

// index_add and index_copy: one slice of the source per index.
Arg index_write_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index"), &source = in.type("source");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (index.ndim() > 1) {
    in.fail(ErrorKind::kIndex, "index-write",
            "Index is supposed to be a vector, but got dim: ", index.ndim());
  }
  if (index.dtype != DType::kInt64 &&
      (index.dtype != DType::kInt32 || in.symbol().name() == "index_copy")) {
    in.unsupported("index dtype ", name(index.dtype));
  }
  require_same_dtype(in, "source");
  // Some of eager's checks depend on the row; what is not plainly right is left to the fallback.
  bool fits = t.ndim() == source.ndim() && t.ndim() > 0;
  for (size_t i = 0; fits && i < t.ndim(); ++i) {
    fits = source.shape[i] == (i == d ? numel(index) : t.shape[i]);
  }
  if (!fits) in.unsupported("a source that is not one slice per index");
  return contiguous_like(in);
}

Arg index_fill_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index");
  meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (index.dtype != DType::kInt64) {
    in.fail(ErrorKind::kIndex, "index-dtype", "Expected dtype int64 for index.");
  }
  if (index.ndim() > 1) {
    in.fail(ErrorKind::kRuntime, "index-fill", "Index has to be a vector/scalar");
  }
  if (const TensorProxy* value = in.opt_tensor("value")) {
    if (value->type.ndim()) {
      in.fail(ErrorKind::kRuntime, "index-fill", "Only supports 0-dimensional value tensor, but ",
              "got tensor with ", value->type.ndim(), " dimension(s).");
    }
    if (value->type.dtype != t.dtype) in.unsupported("a value of another dtype");
  } else {
    meta::require_fits(in, in["value"], t.dtype);
  }
  return meta::like(in);
}

// Masks are accepted: what they select changes no metadata.
Arg index_put_meta(Call& in) {
  const TensorType &t = in.type("input"), &values = in.type("values");
  if (t.dtype != values.dtype) {
    in.fail(ErrorKind::kRuntime, "dtype-mismatch",
            "Index put requires the source and destination dtypes match, got ", name(t.dtype),
            " for the destination and ", name(values.dtype), " for the source.");
  }
  size_t indexed = 0, used = 0;
  Dims shape;
  bool masks = false, any = false;
  for (const Arg& item : in["indices"].items()) {
    if (item.is_none()) {
      ++used;
      continue;
    }
    const TensorType& i = item.tensor()->type;
    if (i.dtype == DType::kBool || i.dtype == DType::kUInt8) {
      masks = true;
      for (size_t d = 0; d < i.ndim(); ++d) {
        if (used + d >= t.ndim() || !(t.shape[used + d] == i.shape[d])) {
          in.fail(ErrorKind::kIndex, "mask-shape", "The shape of the mask ",
                  meta::shape_text(i.shape), " at index 0 does not match the shape of the indexed ",
                  "tensor ", meta::shape_text(t.shape));
        }
      }
      used += i.ndim();
      continue;
    }
    if (i.dtype != DType::kInt64 && i.dtype != DType::kInt32) {
      in.fail(ErrorKind::kIndex, "index-dtype",
              "tensors used as indices must be long, int, byte or bool tensors");
    }
    shape = any ? broadcast_indices(in, shape, i.shape) : i.shape;
    any = true;
    ++used;
    ++indexed;
  }
  if (used > t.ndim()) {
    in.fail(ErrorKind::kIndex, "too-many-indices", "too many indices for tensor of dimension ",
            t.ndim());
  }
  // Eager's bounds checks on empty tensors are left to the fallback.
  if (is_zero(numel(t))) in.unsupported("an empty tensor");
  if (!masks && any) {
    // The values broadcast to the indexed part; eager's error for those that do not is the
    // fallback's.
    const auto& items = in["indices"].items();
    bool adjacent = true;
    size_t first = 0, last = 0;
    for (size_t d = 0, seen = 0; d < items.size(); ++d) {
      if (items[d].is_none()) continue;
      if (!seen++) first = d;
      last = d;
    }
    adjacent = last - first + 1 == indexed;
    Dims target;
    if (!adjacent) target = shape;
    for (size_t d = 0; d < t.ndim(); ++d) {
      if (adjacent && d == first) {
        for (const Dim size : shape) target.push_back(size);
      }
      if (d >= items.size() || items[d].is_none()) target.push_back(t.shape[d]);
    }
    bool fits = values.shape.size() <= target.size();
    for (size_t d = 0; fits && d < values.shape.size(); ++d) {
      const Dim have = values.shape[values.shape.size() - 1 - d];
      fits = is_one(have) || have == target[target.size() - 1 - d];
    }
    if (!fits) {
      in.fail(ErrorKind::kRuntime, "index-put", "shape mismatch: value tensor of shape ",
              meta::shape_text(values.shape), " cannot be broadcast to indexing result of shape ",
              meta::shape_text(target));
    }
  }
  return meta::like(in);
}

Arg put_meta(Call& in) {
  const TensorType &index = in.type("index"), &source = in.type("source");
  require_same_dtype(in, "source");
  if (index.dtype != DType::kInt64) {
    in.fail(ErrorKind::kRuntime, "index-dtype",
            "put_(): Expected a long tensor for index, but got ", name(index.dtype));
  }
  if (!(numel(index) == numel(source))) {
    in.fail(ErrorKind::kIndex, "put",
            "put_(): Expected source and index to have the same number of elements");
  }
  if (is_zero(numel(in.type("input"))) && !is_zero(numel(index))) {
    in.fail(ErrorKind::kIndex, "put", "put_(): Tried to put elements into an empty tensor");
  }
  return meta::like(in);
}

Arg masked_meta(Call& in) {
  const TensorProxy &x = in.tensor("input"), &mask = in.tensor("mask");
  if (mask.type.dtype != DType::kBool) {
    in.fail(ErrorKind::kRuntime, "mask-dtype", in.symbol().name(),
            " only supports boolean masks, but got mask with dtype ", name(mask.type.dtype));
  }
  return meta::fresh(in, x.type, meta::broadcast(in, x.type.shape, mask.type.shape), x.type.dtype);
}

Arg masked_fill_meta(Call& in) {
  const DType dtype = in.type("input").dtype;
  if (const TensorProxy* value = in.opt_tensor("value")) {
    if (value->type.ndim()) {
      in.fail(ErrorKind::kRuntime, "masked-fill", "masked_fill_ only supports a 0-dimensional ",
              "value tensor, but got tensor with ", value->type.ndim(), " dimension(s).");
    }
    if (!can_cast(value->type.dtype, dtype)) in.unsupported("a value of a higher dtype");
  } else {
    meta::require_fits(in, in["value"], dtype);
  }
  return masked_meta(in);
}

Arg masked_scatter_meta(Call& in) {
  require_same_dtype(in, "source");
  return masked_meta(in);
}

void require_piece(Call& in, const TensorType& piece) {
  if (meta::same_shape(piece.shape, in.type("src").shape)) return;
  in.fail(ErrorKind::kRuntime, "scatter-shape", "expected src to have a size equal to the slice ",
          "of self. src size = ", meta::shape_text(in.type("src").shape),
          ", slice size = ", meta::shape_text(piece.shape));
}

Arg select_scatter_meta(Call& in) {
  const TensorType& t = in.type("input");
  if (t.ndim() == 0) in.unsupported("a 0-d tensor");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  const int64_t i = in.integer("index"), size = t.shape[d].value();
  if (i < -size || i >= size) {
    in.fail(ErrorKind::kIndex, "index-out-of-range", "index ", i,
            " is out of bounds for dimension ", d, " with size ", size);
  }
  require_piece(in, meta::select_type(t, d));
  return written_copy(in);
}

Arg slice_scatter_meta(Call& in) {
  const TensorType& t = in.type("input");
  if (t.ndim() == 0) in.unsupported("a 0-d tensor");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  const int64_t step = in.integer("step");
  if (step <= 0) in.fail(ErrorKind::kRuntime, "slice-step", "slice step must be positive");
  require_piece(in, meta::slice_type(t, d, in.opt_integer("start").value_or(0),
                                     in.opt_integer("end").value_or(INT64_MAX), step));
  return written_copy(in);
}

Arg diagonal_scatter_meta(Call& in) {
  require_piece(in, meta::diagonal_type(in, in.type("input"), in.integer("offset"),
                                        in.integer("dim1"), in.integer("dim2")));
  return written_copy(in);
}

Arg as_strided_scatter_meta(Call& in) {
  if (!is_contiguous(in.type("input"))) in.unsupported("a non-contiguous tensor");
  TensorType piece;
  piece.shape = in.dims("size");
  require_piece(in, piece);
  return written_copy(in);
}

Arg copy_meta(Call& in) {
  const TensorType &t = in.type("input"), &src = in.type("src");
  Dims shape = t.shape;
  meta::expand_strides(in, src, shape);  // raises where src does not broadcast
  return written_copy(in);
}

Arg fill_meta(Call& in) {
  const DType dtype = in.type("input").dtype;
  if (const TensorProxy* value = in.opt_tensor("value")) {
    if (value->type.ndim()) {
      in.fail(ErrorKind::kRuntime, "fill", "fill_ only supports 0-dimension value tensor but got ",
              "tensor with ", value->type.ndim(), " dimensions.");
    }
  } else {
    meta::require_fits(in, in["value"], dtype);
  }
  return meta::like(in);
}

}  // namespace

constinit const Symbol scatter{
    .schema = "scatter(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
    .torch = "torch.scatter torch.Tensor.scatter torch.Tensor.scatter_",
    .tags = kPure,
    .meta = scatter_meta,
    .vjp = scatter_vjp,
};
constinit const Symbol scatter_value{
    .schema = "scatter.value(Tensor input, int dim, Tensor index, Scalar value) -> Tensor",
    .torch = "torch.scatter torch.Tensor.scatter torch.Tensor.scatter_",
    .tags = kPure,
    .meta = scatter_meta,
    .vjp = scatter_vjp,
};
constinit const Symbol scatter_add{
    .schema = "scatter_add(Tensor input, int dim, Tensor index, Tensor src) -> Tensor",
    .torch = "torch.scatter_add torch.Tensor.scatter_add torch.Tensor.scatter_add_",
    .tags = kPure,
    .meta = scatter_meta,
    .vjp = scatter_add_vjp,
};
constinit const Symbol scatter_reduce{
    .schema =
        "scatter_reduce.two(Tensor input, int dim, Tensor index, Tensor src, str reduce, *, "
        "bool include_self=True) -> Tensor",
    .torch = "torch.scatter_reduce torch.Tensor.scatter_reduce torch.Tensor.scatter_reduce_",
    .tags = kPure,
    .meta = scatter_reduce_meta,
    .vjp = scatter_reduce_vjp,
};
constinit const Symbol index_add{
    .schema =
        "index_add(Tensor input, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> "
        "Tensor",
    .torch = "torch.index_add torch.Tensor.index_add torch.Tensor.index_add_",
    .tags = kPure,
    .meta = index_write_meta,
    .vjp = index_add_vjp,
};
constinit const Symbol index_copy{
    .schema = "index_copy(Tensor input, int dim, Tensor index, Tensor source) -> Tensor",
    .torch = "torch.index_copy torch.Tensor.index_copy torch.Tensor.index_copy_",
    .tags = kPure,
    .meta = index_write_meta,
    .vjp = index_copy_vjp,
};
constinit const Symbol index_reduce{
    .schema =
        "index_reduce(Tensor input, int dim, Tensor index, Tensor source, str reduce, *, bool "
        "include_self=True) -> Tensor",
    .torch = "torch.index_reduce torch.Tensor.index_reduce torch.Tensor.index_reduce_",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const std::string_view how = in.text("reduce");
      if (how != "prod" && how != "mean" && how != "amax" && how != "amin") {
        in.unsupported("reduce='", how, "'");
      }
      return index_write_meta(in);
    },
    .vjp = index_reduce_vjp,
};
constinit const Symbol index_fill{
    .schema = "index_fill.int_Scalar(Tensor input, int dim, Tensor index, Scalar value) -> Tensor",
    .torch = "torch.index_fill torch.Tensor.index_fill torch.Tensor.index_fill_",
    .tags = kPure,
    .meta = index_fill_meta,
    .vjp = index_fill_vjp,
};
constinit const Symbol index_fill_tensor{
    .schema = "index_fill.int_Tensor(Tensor input, int dim, Tensor index, Tensor value) -> Tensor",
    .torch = "torch.index_fill torch.Tensor.index_fill torch.Tensor.index_fill_",
    .tags = kPure,
    .meta = index_fill_meta,
    .vjp = index_fill_vjp,
};
constinit const Symbol index_put{
    .schema =
        "index_put(Tensor input, Tensor[]? indices, Tensor values, bool accumulate=False) -> "
        "Tensor",
    .torch = "torch.index_put torch.Tensor.index_put torch.index_put_ torch.Tensor.index_put_",
    .tags = kPure,
    .meta = index_put_meta,
    .vjp = index_put_vjp,
};
constinit const Symbol put{
    .schema = "put(Tensor input, Tensor index, Tensor source, bool accumulate=False) -> Tensor",
    .torch = "torch.put torch.Tensor.put torch.Tensor.put_",
    .tags = kPure,
    .meta = put_meta,
    .vjp = put_vjp,
};
constinit const Symbol masked_fill{
    .schema = "masked_fill.Scalar(Tensor input, Tensor mask, Scalar value) -> Tensor",
    .torch = "torch.masked_fill torch.Tensor.masked_fill torch.Tensor.masked_fill_",
    .tags = kPure,
    .meta = masked_fill_meta,
    .vjp = masked_fill_vjp,
};
constinit const Symbol masked_fill_tensor{
    .schema = "masked_fill.Tensor(Tensor input, Tensor mask, Tensor value) -> Tensor",
    .torch = "torch.masked_fill torch.Tensor.masked_fill torch.Tensor.masked_fill_",
    .tags = kPure,
    .meta = masked_fill_meta,
    .vjp = masked_fill_vjp,
};
constinit const Symbol masked_scatter{
    .schema = "masked_scatter(Tensor input, Tensor mask, Tensor source) -> Tensor",
    .torch = "torch.masked_scatter torch.Tensor.masked_scatter torch.Tensor.masked_scatter_",
    .tags = kPure,
    .meta = masked_scatter_meta,
    .vjp = masked_scatter_vjp,
};
constinit const Symbol select_scatter{
    .schema = "select_scatter(Tensor input, Tensor src, int dim, int index) -> Tensor",
    .torch = "torch.select_scatter torch.Tensor.select_scatter",
    .tags = kPure,
    .meta = select_scatter_meta,
    .vjp = select_scatter_vjp,
};
constinit const Symbol slice_scatter{
    .schema =
        "slice_scatter(Tensor input, Tensor src, int dim=0, int? start=None, int? end=None, "
        "int step=1) -> Tensor",
    .torch = "torch.slice_scatter torch.Tensor.slice_scatter",
    .tags = kPure,
    .meta = slice_scatter_meta,
    .vjp = slice_scatter_vjp,
};
constinit const Symbol diagonal_scatter{
    .schema =
        "diagonal_scatter(Tensor input, Tensor src, int offset=0, int dim1=0, int dim2=1) -> "
        "Tensor",
    .torch = "torch.diagonal_scatter torch.Tensor.diagonal_scatter",
    .tags = kPure,
    .meta = diagonal_scatter_meta,
    .vjp = diagonal_scatter_vjp,
};
constinit const Symbol as_strided_scatter{
    .schema =
        "as_strided_scatter(Tensor input, Tensor src, int[] size, int[] stride, int? "
        "storage_offset=None) -> Tensor",
    .torch = "torch.as_strided_scatter torch.Tensor.as_strided_scatter",
    .tags = kPure,
    .meta = as_strided_scatter_meta,
    .vjp = as_strided_scatter_vjp,
};
// x.copy_(src) as a function of x: src broadcast to x's shape, in x's dtype and on its device.
constinit const Symbol copy{
    .schema = "copy(Tensor input, Tensor src, bool non_blocking=False) -> Tensor",
    .torch = "torch.ops.aten.copy torch.Tensor.copy_",
    .tags = kPure,
    .meta = copy_meta,
    .vjp = copy_vjp,
};
constinit const Symbol fill{
    .schema = "fill.Scalar(Tensor input, Scalar value) -> Tensor",
    .torch = "torch.fill torch.fill_ torch.Tensor.fill_",
    .tags = kPure,
    .meta = fill_meta,
    .vjp = fill_vjp,
};
constinit const Symbol fill_tensor{
    .schema = "fill.Tensor(Tensor input, Tensor value) -> Tensor",
    .torch = "torch.fill torch.fill_ torch.Tensor.fill_",
    .tags = kPure,
    .meta = fill_meta,
    .vjp = fill_vjp,
};
constinit const Symbol zero{
    .schema = "zero(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.zero torch.zero_ torch.Tensor.zero_",
    .tags = kPure,
    .meta = [](Call& in) { return meta::like(in); },
    .vjp = zero_vjp,
};

}  // namespace fulmen::ops
