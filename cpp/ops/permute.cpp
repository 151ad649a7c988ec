#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/shape.h"
#include "ops/shape_gradient.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kPureView = kPure | kView;
using Order = SmallVec<size_t, 6>;

Order default_order(size_t n) {
  Order order;
  for (size_t i = 0; i < n; ++i) order.push_back(i);
  return order;
}

Arg permute_to(Call& in, std::span<const size_t> order) {
  const TensorProxy& x = in.tensor("input");
  return in.make_view(meta::permuted(x.type, order), x);
}

Arg swap_dims(Call& in, int64_t dim0, int64_t dim1) {
  const size_t n = in.type("input").ndim();
  const size_t a = meta::wrap_dim(in, dim0, n), b = meta::wrap_dim(in, dim1, n);
  Order order = default_order(n);
  if (n) std::swap(order[a], order[b]);
  return permute_to(in, order);
}

Arg permute_meta(Call& in) {
  const size_t n = in.type("input").ndim();
  const auto dims = in.integers("dims");
  if (dims.size() != n) {
    in.fail(ErrorKind::kRuntime, "permute", "permute(sparse_coo): number of dimensions in the ",
            "tensor input does not match the length of the desired ordering of dimensions i.e. ",
            "input.dim() = ", n, " is not equal to len(dims) = ", dims.size());
  }
  Order order;
  SmallVec<bool, 8> seen(n, false);
  for (const int64_t dim : dims) {
    const size_t d = meta::wrap_dim(in, dim, n);
    if (seen[d]) in.fail(ErrorKind::kRuntime, "permute", "duplicate dims are not allowed.");
    seen[d] = true;
    order.push_back(d);
  }
  return permute_to(in, order);
}

Arg t_meta(Call& in) {
  const size_t n = in.type("input").ndim();
  if (n > 2) {
    in.fail(ErrorKind::kRuntime, "t", "t() expects a tensor with <= 2 dimensions, but self is ", n,
            "D");
  }
  return n < 2 ? permute_to(in, default_order(n)) : swap_dims(in, 0, 1);
}

Arg numpy_t_meta(Call& in) {
  Order order = default_order(in.type("input").ndim());
  std::reverse(order.begin(), order.end());
  return permute_to(in, order);
}

Arg matrix_transpose(Call& in, std::string_view property, bool conjugate, bool batched) {
  const TensorType& t = in.type("input");
  if (t.ndim() == 0) in.unsupported("a 0-d tensor");
  if (batched ? t.ndim() < 2 : t.ndim() != 2) {
    in.fail(ErrorKind::kRuntime, "matrix-transpose", property, " is only supported on matrices",
            batched ? " or batches of matrices" : "", ". Got ", t.ndim(), "-D tensor.");
  }
  if (conjugate && is_complex(t.dtype)) in.unsupported("the conjugate view of a complex tensor");
  return swap_dims(in, -2, -1);
}

Arg movedim_meta(Call& in) {
  const size_t n = in.type("input").ndim();
  const auto source = in.integers("source"), destination = in.integers("destination");
  if (source.size() != destination.size()) {
    in.fail(ErrorKind::kRuntime, "movedim", "movedim: Invalid source or destination dims: source (",
            source.size(), " dims) should contain the same number of dims as destination (",
            destination.size(), " dims)");
  }
  constexpr size_t kFree = SIZE_MAX;
  Order order(n ? n : 1, kFree);
  SmallVec<bool, 8> moved(n ? n : 1, false);
  for (size_t i = 0; i < source.size(); ++i) {
    const size_t from = meta::wrap_dim(in, source[i], n);
    const size_t to = meta::wrap_dim(in, destination[i], n);
    if (moved[from] || order[to] != kFree) {
      in.fail(ErrorKind::kRuntime, "movedim", "movedim: repeated dim");
    }
    moved[from] = true;
    order[to] = from;
  }
  if (n == 0) return permute_to(in, {});
  size_t next = 0;
  for (size_t& d : order) {
    if (d != kFree) continue;
    while (moved[next]) ++next;
    d = next++;
  }
  return permute_to(in, order);
}

Arg squeeze_where(Call& in, std::span<const bool> chosen) {
  const TensorProxy& x = in.tensor("input");
  TensorType out = x.type;
  for (size_t d = x.type.ndim(); d-- > 0;) {
    if (!chosen[d]) continue;
    if (!x.type.shape[d].is_concrete()) in.unsupported("a symbolic size");
    if (is_one(x.type.shape[d])) out = meta::select_type(out, d);
  }
  return in.make_view(out, x);
}

Arg squeeze_dims_meta(Call& in) {
  const size_t n = in.type("input").ndim();
  SmallVec<bool, 8> chosen(n ? n : 1, false);
  for (const int64_t dim : in.integers("dim")) {
    const size_t d = meta::wrap_dim(in, dim, n);
    if (chosen[d]) {
      in.fail(ErrorKind::kRuntime, "repeated-dim", "dim ", d,
              " appears multiple times in the list of dims");
    }
    chosen[d] = true;
  }
  return squeeze_where(in, chosen);
}

}  // namespace

constinit const Symbol permute{
    .schema = "permute(Tensor input, int[]* dims) -> Tensor",
    .torch = "torch.permute torch.Tensor.permute",
    .tags = kPureView,
    .meta = permute_meta,
    .vjp = permute_vjp,
};
constinit const Symbol transpose{
    .schema = "transpose(Tensor input, int dim0, int dim1) -> Tensor",
    .torch =
        "torch.transpose torch.Tensor.transpose torch.swapaxes torch.Tensor.swapaxes "
        "torch.swapdims torch.Tensor.swapdims torch.Tensor.transpose_ torch.Tensor.swapaxes_ "
        "torch.Tensor.swapdims_",
    .tags = kPureView,
    .meta = [](Call& in) { return swap_dims(in, in.integer("dim0"), in.integer("dim1")); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {transpose(grad, in["dim0"], in["dim1"])});
    },
};
constinit const Symbol t{
    .schema = "t(Tensor input) -> Tensor",
    .torch = "torch.t torch.Tensor.t torch.Tensor.t_",
    .tags = kPureView,
    .meta = t_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return grads(in, {t(grad)}); },
};
constinit const Symbol numpy_T{
    .schema = "numpy_T(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.numpy_T torch.Tensor.T",
    .tags = kPureView,
    .meta = numpy_t_meta,
    .vjp = reverse_dims_vjp,
};
constinit const Symbol matrix_H{
    .schema = "matrix_H(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.matrix_H torch.Tensor.H",
    .tags = kPureView,
    .meta = [](Call& in) { return matrix_transpose(in, "tensor.H", true, false); },
    .vjp = matrix_transpose_vjp,
};
constinit const Symbol mT{
    .schema = "mT(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.mT torch.Tensor.mT",
    .tags = kPureView,
    .meta = [](Call& in) { return matrix_transpose(in, "tensor.mT", false, true); },
    .vjp = matrix_transpose_vjp,
};
constinit const Symbol mH{
    .schema = "mH(Tensor input) -> Tensor",
    .torch = "torch.ops.aten.mH torch.Tensor.mH",
    .tags = kPureView,
    .meta = [](Call& in) { return matrix_transpose(in, "tensor.mH", true, true); },
    .vjp = matrix_transpose_vjp,
};
constinit const Symbol adjoint{
    .schema = "adjoint(Tensor input) -> Tensor",
    .torch = "torch.adjoint torch.Tensor.adjoint",
    .tags = kPureView,
    .meta = [](Call& in) { return matrix_transpose(in, "tensor.adjoint()", true, true); },
    .vjp = matrix_transpose_vjp,
};
constinit const Symbol movedim{
    .schema = "movedim(Tensor input, int[1] source, int[1] destination) -> Tensor",
    .torch = "torch.movedim torch.Tensor.movedim torch.moveaxis torch.Tensor.moveaxis",
    .tags = kPureView,
    .meta = movedim_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {movedim(grad, in["destination"], in["source"])});
    },
};
constinit const Symbol squeeze{
    .schema = "squeeze(Tensor input) -> Tensor",
    .torch = "torch.squeeze torch.Tensor.squeeze torch.Tensor.squeeze_",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const SmallVec<bool, 8> all(in.type("input").ndim(), true);
          return squeeze_where(in, all);
        },
    .vjp = reshape_vjp,
};
constinit const Symbol squeeze_dim{
    .schema = "squeeze.dim(Tensor input, int dim) -> Tensor",
    .torch = "torch.squeeze torch.Tensor.squeeze torch.Tensor.squeeze_",
    .tags = kPureView,
    .meta = squeeze_dims_meta,
    .vjp = reshape_vjp,
};
constinit const Symbol squeeze_dims{
    .schema = "squeeze.dims(Tensor input, int[]* dim) -> Tensor",
    .torch = "torch.squeeze torch.Tensor.squeeze torch.Tensor.squeeze_",
    .tags = kPureView,
    .meta = squeeze_dims_meta,
    .vjp = reshape_vjp,
};
constinit const Symbol unsqueeze{
    .schema = "unsqueeze(Tensor input, int dim) -> Tensor",
    .torch = "torch.unsqueeze torch.Tensor.unsqueeze torch.Tensor.unsqueeze_",
    .tags = kPureView,
    .meta =
        [](Call& in) {
          const TensorProxy& x = in.tensor("input");
          const size_t dim = meta::wrap_dim(in, in.integer("dim"), x.type.ndim() + 1);
          return in.make_view(meta::unsqueezed(x.type, dim), x);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {squeeze_dim(grad, in["dim"])});
    },
};

}  // namespace fulmen::ops
