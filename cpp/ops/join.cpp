#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen {
namespace meta {
namespace {

// An empty 1-d tensor joins anything, and is left out.
bool is_skipped(const TensorType& t) { return t.ndim() == 1 && is_zero(t.shape[0]); }

}  // namespace

TensorType cat_type(const Call& in, std::span<const TensorType* const> inputs, int64_t dim) {
  const TensorType* first = nullptr;
  bool channels_last = true;
  TensorType out;
  out.device = inputs[0]->device;
  size_t position = 0;
  for (const TensorType* t : inputs) {
    if (t->ndim() == 0) {
      in.fail(ErrorKind::kRuntime, "zero-dim", "zero-dimensional tensor (at position ", position,
              ") cannot be concatenated");
    }
    if (t->device != out.device) {
      in.fail(ErrorKind::kRuntime, "device-mismatch",
              "Expected all tensors to be on the same device, but found at least two devices, ",
              to_string(out.device), " and ", to_string(t->device), "!");
    }
    out.dtype = position ? promote(out.dtype, t->dtype) : t->dtype;
    channels_last = channels_last && suggests_channels_last(*t);
    if (!first && !is_skipped(*t)) first = t;
    ++position;
  }
  if (!first) {
    out.shape = {Dim(0)};
    out.strides = {Dim(1)};
    return out;
  }
  const size_t d = wrap_dim(in, dim, first->ndim());
  out.shape = first->shape;
  out.shape[d] = 0;
  for (const TensorType* t : inputs) {
    if (is_skipped(*t)) continue;
    if (t->ndim() != first->ndim()) {
      in.fail(ErrorKind::kRuntime, "cat", "Tensors must have same number of dimensions: got ",
              first->ndim(), " and ", t->ndim());
    }
    for (size_t i = 0; i < t->ndim(); ++i) {
      if (i == d || t->shape[i] == first->shape[i]) continue;
      if (!t->shape[i].is_concrete() || !first->shape[i].is_concrete()) {
        in.unsupported("symbolic sizes");
      }
      in.fail(ErrorKind::kRuntime, "cat", "Sizes of tensors must match except in dimension ", d,
              ". Got ", shape_text(first->shape), " and ", shape_text(t->shape));
    }
    out.shape[d] = out.shape[d] + t->shape[d];
  }
  out.strides = channels_last ? channels_last_strides(out.shape) : contiguous_strides(out.shape);
  return out;
}

}  // namespace meta

namespace ops {
namespace {

using Types = SmallVec<const TensorType*, 8>;

Types joined_types(Call& in, std::string_view message) {
  Types types;
  for (const TensorProxy* t : in.tensors("tensors")) types.push_back(&t->type);
  if (types.empty()) in.fail(ErrorKind::kRuntime, "empty-list", message);
  return types;
}

Arg stack_meta(Call& in) {
  const Types types = joined_types(in, "stack expects a non-empty TensorList");
  const TensorType& first = *types[0];
  const size_t d = meta::wrap_dim(in, in.integer("dim"), first.ndim() + 1);
  size_t position = 0;
  for (const TensorType* t : types) {
    if (!meta::same_shape(t->shape, first.shape)) {
      in.fail(ErrorKind::kRuntime, "stack", "stack expects each tensor to be equal size, but got ",
              meta::shape_text(first.shape), " at entry 0 and ", meta::shape_text(t->shape),
              " at entry ", position);
    }
    ++position;
  }
  if (d == first.ndim()) {
    std::vector<TensorType> lines;
    lines.reserve(types.size());
    Types pointers;
    for (const TensorType* t : types) {
      lines.push_back(meta::unsqueezed(*t, d));
      pointers.push_back(&lines.back());
    }
    return in.make(meta::cat_type(in, pointers, d));
  }
  // Joined along an existing dimension, which is then split.
  TensorType out = meta::cat_type(in, types, d);
  Dims shape = first.shape;
  shape.insert(d, Dim(types.size()));
  const auto strides = meta::view_strides(out, shape);
  if (!strides) in.unsupported("memory format");
  out.shape = shape;
  out.strides = *strides;
  return in.make(out);
}

// The inputs of hstack and its kin, with at least `ndim` dimensions.
template <class Widen>
Arg joined(Call& in, Widen widen) {
  joined_types(in, "expects a non-empty TensorList");
  Args out;
  for (const Arg& t : in["tensors"].items()) out.push_back(widen(t));
  return in.list(out);
}

Arg column_of(const Arg& x) {
  const TensorType& t = x.tensor()->type;
  if (t.ndim() > 1) return x;
  const Arg shape[] = {Arg(numel(t)), Arg(1)};
  return reshape(x, Builder::current().ctx().make_collection(Arg::Kind::kTuple, shape));
}

}  // namespace

constinit const Symbol cat{
    .schema = "cat(Tensor[] tensors, int dim=0) -> Tensor",
    .torch = "torch.cat torch.concat torch.concatenate",
    .tags = kPure,
    .meta =
        [](Call& in) {
          if (in["tensors"].items().empty()) {
            in.fail(ErrorKind::kValue, "empty-list", "expected a non-empty list of Tensors");
          }
          const Types types = joined_types(in, "");
          return in.make(meta::cat_type(in, types, in.integer("dim")));
        },
    .vjp = cat_vjp,
};
constinit const Symbol stack{
    .schema = "stack(Tensor[] tensors, int dim=0) -> Tensor",
    .torch = "torch.stack",
    .tags = kPure,
    .meta = stack_meta,
    .decompose =
        [](Call& in) {
          const Arg dim = in["dim"];
          return cat(joined(in, [&](const Arg& t) { return unsqueeze(t, dim); }), dim);
        },
    .vjp = stack_vjp,
};
constinit const Symbol hstack{
    .schema = "hstack(Tensor[] tensors) -> Tensor",
    .torch = "torch.hstack",
    .tags = kPure,
    .decompose =
        [](Call& in) {
          const Arg tensors = joined(in, [](const Arg& t) { return atleast_1d(t); });
          return cat(tensors, tensors.items()[0].tensor()->type.ndim() == 1 ? 0 : 1);
        },
};
constinit const Symbol vstack{
    .schema = "vstack(Tensor[] tensors) -> Tensor",
    .torch = "torch.vstack torch.row_stack",
    .tags = kPure,
    .decompose =
        [](Call& in) { return cat(joined(in, [](const Arg& t) { return atleast_2d(t); }), 0); },
};
constinit const Symbol dstack{
    .schema = "dstack(Tensor[] tensors) -> Tensor",
    .torch = "torch.dstack",
    .tags = kPure,
    .decompose =
        [](Call& in) { return cat(joined(in, [](const Arg& t) { return atleast_3d(t); }), 2); },
};
constinit const Symbol column_stack{
    .schema = "column_stack(Tensor[] tensors) -> Tensor",
    .torch = "torch.column_stack",
    .tags = kPure,
    .decompose = [](Call& in) { return hstack(joined(in, column_of)); },
};

}  // namespace ops
}  // namespace fulmen
