#include "ops/indexing.h"

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/families.h"
#include "ops/indexing_gradient.h"
#include "ops/meta.h"
#include "ops/pointwise.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

bool is_index_dtype(DType t) { return t == DType::kInt64 || t == DType::kInt32; }

void require_index_dtype(Call& in, const TensorType& index) {
  if (!is_index_dtype(index.dtype)) {
    in.fail(ErrorKind::kRuntime, "index-dtype", "Expected dtype int32/int64 for index, got ",
            name(index.dtype));
  }
}

Arg gather_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (!is_zero(numel(index))) {
    require_index_dtype(in, index);
    if (std::max<size_t>(t.ndim(), 1) != std::max<size_t>(index.ndim(), 1)) {
      in.fail(ErrorKind::kRuntime, "gather",
              "Index tensor must have the same number of dimensions as input tensor");
    }
    for (size_t i = 0; i < std::min(t.ndim(), index.ndim()); ++i) {
      if (i != d && index.shape[i].value() > t.shape[i].value()) {
        in.fail(ErrorKind::kRuntime, "gather", "Size does not match at dimension ", i,
                " expected index ", meta::shape_text(index.shape), " to be no larger than self ",
                meta::shape_text(t.shape), " apart from dimension ", d);
      }
    }
  }
  return meta::fresh(in, t, index.shape, t.dtype);
}

Arg take_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index");
  if (index.dtype != DType::kInt64) {
    in.fail(ErrorKind::kRuntime, "index-dtype",
            "take(): Expected a long tensor for index, but got ", name(index.dtype));
  }
  if (is_zero(numel(t)) && !is_zero(numel(index))) {
    in.fail(ErrorKind::kIndex, "take", "take(): tried to take from an empty tensor");
  }
  return meta::fresh(in, t, index.shape, t.dtype);
}

Arg take_along_dim_meta(Call& in) {
  const TensorType &t = in.type("input"), &indices = in.type("indices");
  if (!in.has("dim")) {
    require_index_dtype(in, indices);
    const Dims all[] = {Dims{numel(t)}, Dims{numel(indices)}};
    if (!meta::view_strides(t, all[0]) || !meta::view_strides(indices, all[1])) {
      in.fail(ErrorKind::kRuntime, "view-strides",
              "view size is not compatible with input tensor's size and stride");
    }
    return meta::fresh(in, t, all[1], t.dtype);
  }
  if (indices.dtype != DType::kInt64) {
    in.fail(ErrorKind::kRuntime, "index-dtype",
            "torch.take_along_dim(): dtype of indices should be Long but got ",
            name(indices.dtype));
  }
  if (t.ndim() != indices.ndim()) {
    in.fail(ErrorKind::kRuntime, "take-along-dim",
            "torch.take_along_dim(): input and indices should have the same number of dimensions, ",
            "but got ", t.ndim(), " dimensions for input, and ", indices.ndim(),
            " dimensions for indices");
  }
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (t.ndim() == 0) return meta::fresh(in, t, {}, t.dtype);
  Dims shape = t.shape;
  shape[d] = indices.shape[d];
  return meta::fresh(in, t, meta::broadcast(in, shape, indices.shape), t.dtype);
}

Arg index_select_meta(Call& in) {
  const TensorType &t = in.type("input"), &index = in.type("index");
  const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (index.ndim() > 1) {
    in.fail(ErrorKind::kIndex, "index-select", "Index is supposed to be a vector");
  }
  if (!is_index_dtype(index.dtype)) {
    in.fail(ErrorKind::kRuntime, "index-dtype",
            "index_select(): Expected dtype int32 or int64 for index, got ", name(index.dtype));
  }
  if (t.ndim() == 0 && !is_one(numel(index))) in.unsupported("a 0-d tensor with several indices");
  Dims shape = t.shape;
  if (t.ndim()) {
    if (is_zero(shape[d]) && !is_zero(numel(index))) in.unsupported("an empty dimension");
    shape[d] = numel(index);
  }
  return meta::fresh(in, t, shape, t.dtype);
}

// An index tensor in the iteration space of the result: ones stand for the other dimensions.
TensorType placed_index(const TensorType& index, size_t before, size_t after) {
  Dims shape(before, Dim(1));
  for (const Dim d : index.shape) shape.push_back(d);
  for (size_t i = 0; i < after; ++i) shape.push_back(1);
  TensorType out = index;
  out.strides = meta::view_strides(index, shape).value_or(contiguous_strides(shape));
  out.shape = shape;
  return out;
}

// Advanced indexing. Where the indexed dimensions are not adjacent, their result comes first; the
// strides are those that TensorIterator gives for the source and the indices as operands.
Arg index_meta(Call& in) {
  TensorType t = in.type("input");
  std::vector<const TensorType*> indices;
  for (const Arg& item : in["indices"].items()) {
    indices.push_back(item.is_none() ? nullptr : &item.tensor()->type);
  }
  if (indices.size() > t.ndim()) {
    in.fail(ErrorKind::kIndex, "too-many-indices", "too many indices for tensor of dimension ",
            t.ndim(), " (got ", indices.size(), ")");
  }
  Dims shape;
  bool any = false;
  for (const TensorType* i : indices) {
    if (!i) continue;
    if (i->dtype == DType::kBool || i->dtype == DType::kUInt8) in.unsupported("a mask as index");
    if (!is_index_dtype(i->dtype)) {
      in.fail(ErrorKind::kIndex, "index-dtype",
              "tensors used as indices must be long, int, byte or bool tensors");
    }
    if (i->device != t.device && i->device.type != DeviceType::kCPU) {
      in.unsupported("an index on another device");
    }
    shape = any ? broadcast_indices(in, shape, i->shape) : i->shape;
    any = true;
  }
  if (!any) in.unsupported("no index");
  indices.resize(t.ndim(), nullptr);
  size_t first = 0, last = 0, count = 0;
  for (size_t d = 0; d < indices.size(); ++d) {
    if (!indices[d]) continue;
    if (!count++) first = d;
    last = d;
  }
  if (last - first + 1 != count) {
    SmallVec<size_t, 6> order;
    for (size_t d = 0; d < indices.size(); ++d) {
      if (indices[d]) order.push_back(d);
    }
    for (size_t d = 0; d < indices.size(); ++d) {
      if (!indices[d]) order.push_back(d);
    }
    const auto unordered = indices;
    for (size_t i = 0; i < order.size(); ++i) indices[i] = unordered[order[i]];
    t = meta::permuted(t, order);
    first = 0;
  }
  for (size_t d = first; d < first + count; ++d) {
    if (t.shape[d].value_or(1) != 0) continue;
    TensorType probe;
    probe.shape = shape;
    if (!is_zero(numel(probe))) {
      in.fail(ErrorKind::kIndex, "empty-index", "index is out of bounds for dimension with size 0");
    }
  }
  const size_t after = t.ndim() - first - count;
  TensorType source = t;
  source.shape = {};
  source.strides = {};
  for (size_t d = 0; d < first; ++d) {
    source.shape.push_back(t.shape[d]);
    source.strides.push_back(t.strides[d]);
  }
  for (const Dim d : shape) {
    source.shape.push_back(d);
    source.strides.push_back(0);
  }
  for (size_t d = first + count; d < t.ndim(); ++d) {
    source.shape.push_back(t.shape[d]);
    source.strides.push_back(t.strides[d]);
  }
  std::vector<TensorType> operands{source};
  for (const TensorType* i : indices) {
    if (!i) continue;
    TensorType index = *i;
    Dims sizes = shape;
    if (!meta::same_shape(i->shape, shape)) {
      index.strides = meta::expand_strides(in, *i, sizes);
      index.shape = shape;
    }
    if (index.dtype == DType::kInt32) index.strides = meta::preserved_strides(index);
    operands.push_back(placed_index(index, first, after));
  }
  if (t.device.type == DeviceType::kCUDA && count >= 2) {
    for (size_t i = 2; i < operands.size(); ++i) {
      if (!(operands[i].strides == operands[1].strides)) {
        operands[i].strides = contiguous_strides(operands[i].shape);
      }
    }
  }
  SmallVec<const TensorType*, 8> pointers;
  for (const TensorType& o : operands) pointers.push_back(&o);
  TensorType out = source;
  out.dtype = in.type("input").dtype;
  out.strides = meta::pointwise_strides(pointers, out.shape);
  return in.make(out);
}

Arg bucket_meta(Call& in, std::string_view values, std::string_view boundaries) {
  const TensorType& sorted = in.type(boundaries);
  TensorType out;
  if (const TensorProxy* v = in.opt_tensor(values)) out = v->type;
  const bool scalar = !in.opt_tensor(values);
  if (sorted.ndim() == 0 || (scalar && sorted.ndim() != 1)) in.unsupported("these dimensions");
  if (sorted.ndim() > 1 || boundaries == "boundaries") {
    bool match = boundaries == "boundaries" ? sorted.ndim() == 1 : sorted.ndim() == out.ndim();
    for (size_t d = 0; match && sorted.ndim() > 1 && d + 1 < sorted.ndim(); ++d) {
      match = sorted.shape[d] == out.shape[d];
    }
    if (!match) {
      in.fail(ErrorKind::kRuntime, "searchsorted", "the sorted tensor should be 1-dimensional, or ",
              "have the leading dimensions of the values; got ", meta::shape_text(sorted.shape),
              " and ", meta::shape_text(out.shape));
    }
  }
  if (!scalar && out.dtype != sorted.dtype) {
    in.unsupported("values and boundaries of different dtypes");
  }
  if (is_complex(sorted.dtype) || sorted.dtype == DType::kBool) in.unsupported("this dtype");
  return meta::fresh(in, sorted, out.shape, in.flag("out_int32") ? DType::kInt32 : DType::kInt64);
}

Arg searchsorted_meta(Call& in) {
  if (in.has("side") || in.has("sorter")) in.unsupported("side or sorter");
  return bucket_meta(in, in.symbol().info->schema.params[1].name, "sorted_sequence");
}

Arg isin_meta(Call& in) {
  const TensorType& t = in.type("elements");
  if (is_complex(t.dtype)) in.unsupported("a complex tensor");
  return meta::fresh(in, t, t.shape, DType::kBool);
}

Arg one_hot_meta(Call& in) {
  const TensorType& t = in.type("tensor");
  if (t.dtype != DType::kInt64) {
    in.fail(ErrorKind::kRuntime, "index-dtype",
            "one_hot is only applicable to index tensor of type LongTensor.");
  }
  const int64_t classes = in.integer("num_classes");
  if (classes < 1) in.unsupported("the number of classes depends on the data");
  Dims shape = t.shape;
  shape.push_back(classes);
  return meta::fresh(in, t, shape, DType::kInt64);
}

}  // namespace

Dims broadcast_indices(Call& in, std::span<const Dim> a, std::span<const Dim> b) {
  for (size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const Dim x = a[a.size() - i], y = b[b.size() - i];
    if (x == y || is_one(x) || is_one(y) || !x.is_concrete() || !y.is_concrete()) continue;
    in.fail(ErrorKind::kIndex, "index-broadcast",
            "shape mismatch: indexing tensors could not be broadcast together with shapes ",
            meta::shape_text(a), ", ", meta::shape_text(b));
  }
  return meta::broadcast(in, a, b);
}

constinit const Symbol gather{
    .schema = "gather(Tensor input, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor",
    .torch = "torch.gather torch.Tensor.gather",
    .tags = kPure,
    .meta = gather_meta,
    .vjp = gather_vjp,
};
constinit const Symbol take{
    .schema = "take(Tensor input, Tensor index) -> Tensor",
    .torch = "torch.take torch.Tensor.take",
    .tags = kPure,
    .meta = take_meta,
    .vjp = take_vjp,
};
constinit const Symbol take_along_dim{
    .schema = "take_along_dim(Tensor input, Tensor indices, int? dim=None) -> Tensor",
    .torch = "torch.take_along_dim torch.Tensor.take_along_dim",
    .tags = kPure,
    .meta = take_along_dim_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"], given = in["indices"];
      const TensorType &t = in.type("input"), &indices = in.type("indices");
      // Negative indices count from the end.
      const auto wrapped = [&](const Dim size) {
        return where(lt(given, 0), given + Arg(size), given);
      };
      if (!in.has("dim")) return gather(flatten(x), 0, flatten(wrapped(numel(t))));
      const size_t d = meta::wrap_dim(in, in.integer("dim"), t.ndim());
      if (t.ndim() == 0) return gather(x, 0, given);
      const Arg at = wrapped(t.shape[d]);
      // Both broadcast to each other but in the dimension itself.
      Dims own = t.shape, theirs = indices.shape;
      own[d] = theirs[d] = 1;
      own = theirs = meta::broadcast(in, own, theirs);
      own[d] = t.shape[d];
      theirs[d] = indices.shape[d];
      return gather(expand(x, in.dims_arg(own)), in["dim"], expand(at, in.dims_arg(theirs)));
    },
};
constinit const Symbol index_select{
    .schema = "index_select(Tensor input, int dim, Tensor index) -> Tensor",
    .torch = "torch.index_select torch.Tensor.index_select",
    .tags = kPure,
    .meta = index_select_meta,
    .vjp = index_select_vjp,
};
constinit const Symbol index{
    .schema = "index(Tensor input, Tensor[]? indices) -> Tensor",
    .torch = "torch.ops.aten.index",
    .tags = kPure,
    .meta = index_meta,
    .vjp = index_vjp,
};
constinit const Symbol bucketize{
    .schema =
        "bucketize(Tensor input, Tensor boundaries, *, bool out_int32=False, bool "
        "right=False) -> Tensor",
    .torch = "torch.bucketize",
    .tags = kPure | kNonDifferentiable,
    .meta = [](Call& in) { return bucket_meta(in, "input", "boundaries"); },
};
constinit const Symbol bucketize_scalar{
    .schema =
        "bucketize.Scalar(Scalar input, Tensor boundaries, *, bool out_int32=False, bool "
        "right=False) -> Tensor",
    .torch = "torch.bucketize",
    .tags = kPure | kNonDifferentiable,
    .meta = [](Call& in) { return bucket_meta(in, "input", "boundaries"); },
};
constinit const Symbol searchsorted{
    .schema =
        "searchsorted(Tensor sorted_sequence, Tensor input, *, bool out_int32=False, bool "
        "right=False, str? side=None, Tensor? sorter=None) -> Tensor",
    .torch = "torch.searchsorted",
    .tags = kPure | kNonDifferentiable,
    .meta = searchsorted_meta,
};
constinit const Symbol searchsorted_scalar{
    .schema =
        "searchsorted.Scalar(Tensor sorted_sequence, Scalar self, *, bool out_int32=False, "
        "bool right=False, str? side=None, Tensor? sorter=None) -> Tensor",
    .torch = "torch.searchsorted",
    .tags = kPure | kNonDifferentiable,
    .meta = searchsorted_meta,
};
constinit const Symbol isin{
    .schema =
        "isin(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool "
        "invert=False) -> Tensor",
    .torch = "torch.isin",
    .tags = kPure | kNonDifferentiable,
    .meta = isin_meta,
};
constinit const Symbol isin_scalar{
    .schema =
        "isin.Tensor_Scalar(Tensor elements, Scalar test_element, *, bool "
        "assume_unique=False, bool invert=False) -> Tensor",
    .torch = "torch.isin",
    .tags = kPure | kNonDifferentiable,
    .meta = isin_meta,
};
constinit const Symbol one_hot{
    .schema = "one_hot(Tensor tensor, int num_classes=-1) -> Tensor",
    .torch = "torch.nn.functional.one_hot torch._C._nn.one_hot",
    .tags = kPure | kNonDifferentiable,
    .meta = one_hot_meta,
};

std::span<const Symbol* const> indexing_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_INDEXING_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
