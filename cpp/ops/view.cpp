#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kPureView = kPure | kView;

Arg view_as_shape(Call& in, std::span<const Dim> shape) {
  const TensorProxy& x = in.tensor("input");
  const auto strides = meta::view_strides(x.type, shape);
  if (!strides) {
    in.fail(ErrorKind::kRuntime, "view-strides", "view size ", meta::shape_text(shape),
            " is not compatible with input tensor's size and stride (at least one dimension spans ",
            "across two contiguous subspaces). Use .reshape(...) instead.");
  }
  return meta::view_of(in, x, Dims(shape), *strides);
}

// A view where the strides allow it, else a contiguous copy.
Arg reshape_to(Call& in, std::span<const Dim> shape) {
  const TensorProxy& x = in.tensor("input");
  if (const auto strides = meta::view_strides(x.type, shape)) {
    return meta::view_of(in, x, Dims(shape), *strides);
  }
  return meta::fresh(in, x.type, shape, x.type.dtype);
}

bool reshape_copies(Call& in, std::span<const Dim> shape) {
  return !meta::view_strides(in.type("input"), shape);
}

Arg reshape_by_view(Call& in, std::span<const Dim> shape) {
  const Arg x = in["input"];
  if (!reshape_copies(in, shape)) return view(x, in.dims_arg(shape));
  return view(contiguous_clone(x), in.dims_arg(shape));
}

Dims target_shape(Call& in, std::string_view param) {
  return meta::infer_shape(in, in.dims(param), numel(in.type("input")));
}

Arg view_dtype_meta(Call& in) {
  const TensorProxy& x = in.tensor("input");
  TensorType out = x.type;
  out.dtype = *in.dtype("dtype");
  const int64_t from = itemsize(x.type.dtype), to = itemsize(out.dtype);
  if (from == to) return in.make_view(out, x);
  if (out.shape.empty()) {
    in.fail(ErrorKind::kRuntime, "view-dtype", "self.dim() cannot be 0 to view ",
            name(x.type.dtype), " as ", name(out.dtype), " (different element sizes)");
  }
  if (!is_one(x.type.strides.back())) {
    in.fail(ErrorKind::kRuntime, "view-dtype", "self.stride(-1) must be 1 to view ",
            name(x.type.dtype), " as ", name(out.dtype), " (different element sizes)");
  }
  if (from > to) {
    const Dim ratio = from / to;
    for (Dim& s : out.strides) s = s * ratio;
    out.strides.back() = 1;
    out.shape.back() = out.shape.back() * ratio;
    return in.make_view(out, x);
  }
  const int64_t ratio = to / from;
  if (out.shape.back().value() % ratio != 0) {
    in.fail(ErrorKind::kRuntime, "view-dtype", "self.size(-1) must be divisible by ", ratio);
  }
  for (size_t i = 0; i + 1 < out.ndim(); ++i) {
    if (out.strides[i].value() % ratio != 0) {
      in.fail(ErrorKind::kRuntime, "view-dtype", "self.stride(", i, ") must be divisible by ",
              ratio);
    }
    out.strides[i] = out.strides[i].value() / ratio;
  }
  out.shape.back() = out.shape.back().value() / ratio;
  return in.make_view(out, x);
}

// The shape of flatten(); nothing when there is nothing to flatten.
std::optional<Dims> flattened_shape(Call& in) {
  const TensorType& t = in.type("input");
  const size_t start = meta::wrap_dim(in, in.integer("start_dim"), t.ndim());
  const size_t end = meta::wrap_dim(in, in.integer("end_dim"), t.ndim());
  if (start > end) {
    in.fail(ErrorKind::kRuntime, "flatten",
            "flatten() has invalid args: start_dim cannot come after end_dim");
  }
  if (t.ndim() == 0) return Dims{Dim(1)};
  if (start == end) return std::nullopt;
  Dims shape;
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (i > start && i <= end) {
      shape.back() = shape.back() * t.shape[i];
    } else {
      shape.push_back(t.shape[i]);
    }
  }
  return shape;
}

Dims unflattened_shape(Call& in) {
  const TensorType& t = in.type("input");
  const Dims given = in.dims("sizes");
  if (given.empty()) in.fail(ErrorKind::kRuntime, "unflatten", "sizes must be non-empty");
  const size_t dim = meta::wrap_dim(in, in.integer("dim"), t.ndim());
  if (t.ndim() == 0) in.unsupported("a 0-d tensor");
  const Dims sizes = meta::infer_shape(in, given, t.shape[dim]);
  Dims shape;
  for (size_t i = 0; i < t.ndim(); ++i) {
    if (i != dim) shape.push_back(t.shape[i]);
    if (i == dim) {
      for (const Dim d : sizes) shape.push_back(d);
    }
  }
  return shape;
}

Arg expand_to(Call& in, Dims shape) {
  const TensorProxy& x = in.tensor("input");
  Dims strides = meta::expand_strides(in, x.type, shape);
  return meta::view_of(in, x, std::move(shape), std::move(strides));
}

// The builder marks all results of a call alike, but these require grad one by one.
void require_uniform_grad(Call& in, std::span<const TensorProxy* const> tensors) {
  for (const TensorProxy* t : tensors) {
    if (in.builder().grad_enabled && t->type.requires_grad != tensors[0]->type.requires_grad) {
      in.unsupported("only some of the tensors require grad");
    }
  }
}

Arg broadcast_tensors_meta(Call& in) {
  const auto tensors = in.tensors("tensors");
  require_uniform_grad(in, tensors);
  const Dims shape = meta::broadcast(in, tensors);
  Args out;
  for (const TensorProxy* t : tensors) {
    Dims sizes = shape;
    Dims strides = meta::expand_strides(in, t->type, sizes);
    out.push_back(meta::view_of(in, *t, shape, std::move(strides)));
  }
  return in.tuple(out);
}

Arg meshgrid_meta(Call& in) {
  const auto tensors = in.tensors("tensors");
  const std::string_view indexing = in.has("indexing") ? in.text("indexing") : "ij";
  if (tensors.empty()) {
    in.fail(ErrorKind::kRuntime, "meshgrid", "meshgrid expects a non-empty TensorList");
  }
  if (indexing != "ij" && indexing != "xy") {
    in.fail(ErrorKind::kRuntime, "meshgrid", "indexing must be one of \"xy\" or \"ij\", but got ",
            quoted(indexing));
  }
  require_uniform_grad(in, tensors);
  Dims shape;
  for (const TensorProxy* t : tensors) {
    if (t->type.ndim() > 1) {
      in.fail(ErrorKind::kRuntime, "meshgrid", "expected 0D or 1D tensor in the tensor list but ",
              "got a tensor of shape ", meta::shape_text(t->type.shape));
    }
    if (t->type.dtype != tensors[0]->type.dtype || t->type.device != tensors[0]->type.device) {
      in.fail(ErrorKind::kRuntime, "meshgrid",
              "meshgrid expects all tensors to have the same dtype and device");
    }
    shape.push_back(numel(t->type));
  }
  // "xy" exchanges the first two dimensions of the grid.
  const bool swap = indexing == "xy" && tensors.size() >= 2;
  if (swap) std::swap(shape[0], shape[1]);
  Args out;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const size_t own = swap && i < 2 ? 1 - i : i;
    TensorType line = tensors[i]->type;
    line.shape = Dims(tensors.size(), Dim(1));
    line.shape[own] = shape[own];
    line.strides = *meta::view_strides(tensors[i]->type, line.shape);
    Dims sizes = shape;
    Dims strides = meta::expand_strides(in, line, sizes);
    out.push_back(meta::view_of(in, *tensors[i], std::move(sizes), std::move(strides)));
  }
  return in.tuple(out);
}

Arg atleast_meta(Call& in, size_t ndim) {
  if (!in["input"].is_tensor()) in.unsupported("several tensors");
  const TensorProxy& x = in.tensor("input");
  if (x.type.ndim() >= ndim) return &x;
  TensorType out = x.type;
  if (out.ndim() == 0) {
    for (size_t i = 0; i < ndim; ++i) out = meta::unsqueezed(out, 0);
    const Dims shape(ndim, Dim(1));
    out.strides = *meta::view_strides(x.type, shape);
  } else if (ndim == 2) {
    out = meta::unsqueezed(out, 0);
  } else if (out.ndim() == 1) {
    out = meta::unsqueezed(meta::unsqueezed(out, 0), 2);
  } else {
    out = meta::unsqueezed(out, 2);
  }
  return in.make_view(out, x);
}

Arg as_strided_meta(Call& in) {
  const Dims shape = in.dims("size"), strides = in.dims("stride");
  if (shape.size() != strides.size()) {
    in.fail(ErrorKind::kRuntime, "as-strided", "mismatch in length of strides and shape");
  }
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i].value_or(0) < 0 || strides[i].value_or(0) < 0) {
      in.fail(ErrorKind::kRuntime, "as-strided", "negative sizes and strides are not supported");
    }
  }
  return meta::view_of(in, in.tensor("input"), shape, strides);
}

Arg complex_part(Call& in) {
  const TensorProxy& x = in.tensor("input");
  TensorType out = x.type;
  out.dtype = real_dtype(out.dtype);
  for (Dim& s : out.strides) s = s * Dim(2);
  return in.make_view(out, x);
}

}  // namespace

constinit const Symbol view{
    .schema = "view(Tensor input, int[]* size) -> Tensor",
    .torch = "torch.Tensor.view torch.ops.aten.view",
    .tags = kPureView,
    .meta = [](Call& in) { return view_as_shape(in, target_shape(in, "size")); },
    .vjp = reshape_vjp,
};
constinit const Symbol view_dtype{
    .schema = "view.dtype(Tensor input, dtype dtype) -> Tensor",
    .torch = "torch.Tensor.view",
    .tags = kPureView | kNonDifferentiable,
    .meta = view_dtype_meta,
};
constinit const Symbol view_as{
    .schema = "view_as(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.Tensor.view_as",
    .tags = kPureView | kOthersAreLike,
    .meta =
        [](Call& in) {
          const Dims shape = in.type("other").shape;
          return view_as_shape(in, meta::infer_shape(in, shape, numel(in.type("input"))));
        },
    .vjp = reshape_vjp,
};
constinit const Symbol reshape{
    .schema = "reshape(Tensor input, int[]* shape) -> Tensor",
    .torch = "torch.reshape torch.Tensor.reshape",
    .tags = kPureView,
    .meta = [](Call& in) { return reshape_to(in, target_shape(in, "shape")); },
    .decompose = [](Call& in) { return reshape_by_view(in, target_shape(in, "shape")); },
    .vjp = reshape_vjp,
};
constinit const Symbol reshape_as{
    .schema = "reshape_as(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.Tensor.reshape_as",
    .tags = kPureView | kOthersAreLike,
    .meta =
        [](Call& in) {
          const Dims shape = in.type("other").shape;
          return reshape_to(in, meta::infer_shape(in, shape, numel(in.type("input"))));
        },
    .decompose = [](Call& in) { return reshape(in["input"], in.dims_arg(in.type("other").shape)); },
    .vjp = reshape_vjp,
};
constinit const Symbol flatten{
    .schema = "flatten(Tensor input, int start_dim=0, int end_dim=-1) -> Tensor",
    .torch = "torch.flatten torch.Tensor.flatten",
    .tags = kPureView,
    .meta = [](Call& in) -> Arg {
      const auto shape = flattened_shape(in);
      return shape ? reshape_to(in, *shape) : in["input"];
    },
    .decompose = [](Call& in) -> Arg {
      const auto shape = flattened_shape(in);
      return shape ? reshape(in["input"], in.dims_arg(*shape)) : in["input"];
    },
    .vjp = reshape_vjp,
};
constinit const Symbol unflatten{
    .schema = "unflatten(Tensor input, int dim, int[] sizes) -> Tensor",
    .torch = "torch.unflatten torch.Tensor.unflatten",
    .tags = kPureView,
    .meta = [](Call& in) { return view_as_shape(in, unflattened_shape(in)); },
    .decompose = [](Call& in) { return view(in["input"], in.dims_arg(unflattened_shape(in))); },
    .vjp = reshape_vjp,
};
constinit const Symbol ravel{
    .schema = "ravel(Tensor input) -> Tensor",
    .torch = "torch.ravel torch.Tensor.ravel",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const TensorType& t = in.type("input");
          const Dim count = numel(t);
          if (is_contiguous(t)) return view_as_shape(in, Dims{count});
          return meta::fresh(in, t, Dims{count}, t.dtype);
        },
    .decompose =
        [](Call& in) {
          const Dims shape{numel(in.type("input"))};
          return view(contiguous(in["input"]), in.dims_arg(shape));
        },
    .vjp = reshape_vjp,
};
constinit const Symbol expand{
    .schema = "expand(Tensor input, int[]* size, *, bool implicit=False) -> Tensor",
    .torch = "torch.Tensor.expand",
    .tags = kPureView,
    .meta = [](Call& in) { return expand_to(in, in.dims("size")); },
    .vjp = expand_vjp,
};
constinit const Symbol expand_as{
    .schema = "expand_as(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.Tensor.expand_as",
    .tags = kPureView | kOthersAreLike,
    .meta = [](Call& in) { return expand_to(in, in.type("other").shape); },
    .decompose = [](Call& in) { return expand(in["input"], in.dims_arg(in.type("other").shape)); },
    .vjp = expand_vjp,
};
constinit const Symbol broadcast_to{
    .schema = "broadcast_to(Tensor input, int[]* size) -> Tensor",
    .torch = "torch.broadcast_to torch.Tensor.broadcast_to",
    .tags = kPureView,
    .meta = [](Call& in) { return expand_to(in, in.dims("size")); },
    .decompose = [](Call& in) { return expand(in["input"], in["size"]); },
    .vjp = expand_vjp,
};
constinit const Symbol broadcast_tensors{
    .schema = "broadcast_tensors(Tensor[]* tensors) -> Tensor[]",
    .torch = "torch.broadcast_tensors torch.functional.broadcast_tensors",
    .tags = kPureView,
    .meta = broadcast_tensors_meta,
    .vjp = broadcast_tensors_vjp,
};
constinit const Symbol meshgrid{
    .schema = "meshgrid(Tensor[]* tensors, *, str? indexing=None) -> Tensor[]",
    .torch = "torch.meshgrid torch.functional.meshgrid",
    .tags = kPureView,
    .meta = meshgrid_meta,
    .vjp = meshgrid_vjp,
    .aten = "meshgrid(tensors, indexing ?? 'ij')",
};
constinit const Symbol atleast_1d{
    .schema = "atleast_1d(Tensor input) -> Tensor",
    .torch = "torch.atleast_1d torch.functional.atleast_1d",
    .tags = kPureView,
    .meta = [](Call& in) { return atleast_meta(in, 1); },
    .vjp = reshape_vjp,
};
constinit const Symbol atleast_2d{
    .schema = "atleast_2d(Tensor input) -> Tensor",
    .torch = "torch.atleast_2d torch.functional.atleast_2d",
    .tags = kPureView,
    .meta = [](Call& in) { return atleast_meta(in, 2); },
    .vjp = reshape_vjp,
};
constinit const Symbol atleast_3d{
    .schema = "atleast_3d(Tensor input) -> Tensor",
    .torch = "torch.atleast_3d torch.functional.atleast_3d",
    .tags = kPureView,
    .meta = [](Call& in) { return atleast_meta(in, 3); },
    .vjp = reshape_vjp,
};
constinit const Symbol as_strided{
    .schema =
        "as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None) -> "
        "Tensor",
    .torch = "torch.as_strided torch.Tensor.as_strided torch.as_strided_ torch.Tensor.as_strided_",
    .tags = kPureView,
    .meta = as_strided_meta,
    .vjp = as_strided_vjp,
};
constinit const Symbol view_as_real{
    .schema = "view_as_real(Tensor input) -> Tensor",
    .torch = "torch.view_as_real",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const TensorProxy& x = in.tensor("input");
          if (!is_complex(x.type.dtype)) {
            in.fail(ErrorKind::kRuntime, "not-complex",
                    "view_as_real is only supported for complex tensors");
          }
          TensorType out = x.type;
          out.dtype = real_dtype(out.dtype);
          for (Dim& s : out.strides) s = s * Dim(2);
          out.shape.push_back(2);
          out.strides.push_back(1);
          return in.make_view(out, x);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {view_as_complex(contiguous(grad))});
    },
};
constinit const Symbol view_as_complex{
    .schema = "view_as_complex(Tensor input) -> Tensor",
    .torch = "torch.view_as_complex",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const TensorProxy& x = in.tensor("input");
          TensorType out = x.type;
          const bool has_complex = out.dtype == DType::kFloat16 || out.dtype == DType::kFloat32 ||
                                   out.dtype == DType::kFloat64;
          if (!has_complex) {
            in.fail(ErrorKind::kRuntime, "view-as-complex", "view_as_complex is only supported ",
                    "for half, float and double tensors, but got a tensor of scalar type: ",
                    name(out.dtype));
          }
          if (out.shape.empty() || out.shape.back().value() != 2 ||
              out.strides.back().value() != 1) {
            in.fail(ErrorKind::kRuntime, "view-as-complex",
                    "the tensor must have a last dimension of size 2 and stride 1");
          }
          out.shape.pop_back();
          out.strides.pop_back();
          for (Dim& s : out.strides) {
            if (s.value() % 2) {
              in.fail(ErrorKind::kRuntime, "view-as-complex",
                      "the tensor must have a stride divisible by 2 for all but last dimension");
            }
            s = s.value() / 2;
          }
          out.dtype = complex_dtype(out.dtype);
          return in.make_view(out, x);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {view_as_real(contiguous(grad))});
    },
};
constinit const Symbol real{
    .schema = "real(Tensor input) -> Tensor",
    .torch = "torch.real torch.Tensor.real",
    .tags = kPureView,
    .meta = [](Call& in) -> Arg {
      return is_complex(in.type("input").dtype) ? complex_part(in) : in["input"];
    },
    .vjp = complex_part_vjp,
};
constinit const Symbol imag{
    .schema = "imag(Tensor input) -> Tensor",
    .torch = "torch.imag torch.Tensor.imag",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          if (!is_complex(in.type("input").dtype)) {
            in.fail(ErrorKind::kRuntime, "not-complex",
                    "imag is not implemented for tensors with non-complex dtypes.");
          }
          return complex_part(in);
        },
    .vjp = complex_part_vjp,
};
constinit const Symbol detach{
    .schema = "detach(Tensor input) -> Tensor",
    .torch = "torch.detach torch.Tensor.detach",
    .tags = kPureView | kNonDifferentiable,
    .meta = [](Call& in) { return in.make_view(in.type("input"), in.tensor("input")); },
};
// As detach, but writes to it do not count as writes to the tensor: autograd does not see them.
constinit const Symbol data{
    .schema = "data(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.data",
    .tags = kPureView | kNonDifferentiable,
    .meta = [](Call& in) { return in.make_view(in.type("input"), in.tensor("input")); },
};
constinit const Symbol alias{
    .schema = "alias(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.alias",
    .tags = kPureView,
    .meta = [](Call& in) { return in.make_view(in.type("input"), in.tensor("input")); },
    .vjp = pass_vjp,
};

}  // namespace fulmen::ops
