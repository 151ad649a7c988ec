#include "ops/arith.h"
#include "ops/check.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/loss.h"
#include "ops/meta.h"
#include "ops/select.h"
#include "ops/shape.h"

// ATen's losses with what their gradients read, and their gradients.
namespace fulmen::ops {
namespace {

// --- classes ------------------------------------------------------------------------------------

// (loss, total weight)
Arg nll_forward_meta(Call& in) {
  const TensorType &x = in.type("self"), &y = in.type("target");
  meta::require(in, x.dtype, meta::kFloats);
  const bool planes = x.ndim() == 4;
  if (!planes && x.ndim() != 1 && x.ndim() != 2) in.unsupported("an input of this rank");
  Dims shape = x.shape;
  shape.erase(x.ndim() == 1 ? 0 : 1);
  if (!check::equal(in, y.shape, shape)) in.unsupported("a target of another shape");
  check::no_grad_needed(in, "weight");
  const bool none = in.integer("reduction") == 0;
  const Arg loss = none ? meta::fresh(in, x, shape, x.dtype) : meta::fresh(in, x, {}, x.dtype);
  return in.tuple({loss, meta::fresh(in, x, {}, x.dtype)});
}

Args nll_vjp(const Symbol& backward, Call& in, const Arg& out, const Arg& grad) {
  if (item(grad, 0).is_none()) return Args(in.size(), Arg());
  return grads_of(
      in, {{"self", record(backward, {item(grad, 0), in["self"], in["target"], in["weight"],
                                      in["reduction"], in["ignore_index"], item(out, 1)})}});
}

Args nll_backward_vjp(const Symbol& forward, Call& in, const Arg& grad) {
  return linear_backward_grads(in, grad, [&] {
    return item(
        record(forward, {grad, in["target"], in["weight"], in["reduction"], in["ignore_index"]}),
        0);
  });
}

// --- element by element -------------------------------------------------------------------------

// The gradient of a loss has the broadcast shape and is contiguous.
Arg loss_backward_meta(Call& in) {
  const TensorType &x = in.type("self"), &y = in.type("target");
  meta::require(in, x.dtype, meta::kFloats);
  if (x.dtype != y.dtype || in.type("grad_output").dtype != x.dtype || !(x.shape == y.shape)) {
    in.unsupported("operands of several dtypes or shapes");
  }
  return meta::fresh(in, x, x.shape, x.dtype);
}

// The gradient of a mean reaches each element divided by their number.
Arg scaled_grad(Call& in, const Opmath& math) {
  const Arg g = math.up(in["grad_output"]);
  return in.integer("reduction") == 1 ? g / Arg(numel(in.type("self"))) : g;
}

Arg mse_gradient(Call& in) {
  const Opmath math(in.type("self").dtype);
  const Arg difference = math.up(contiguous(in["self"])) - math.up(contiguous(in["target"]));
  return math.down(difference * 2.0 * scaled_grad(in, math));
}

Arg smooth_l1_gradient(Call& in) {
  const Opmath math(in.type("self").dtype);
  const double beta = in.real("beta");
  const Arg x = math.up(contiguous(in["self"])) - math.up(contiguous(in["target"]));
  const Arg slope = where(le(x, -beta), -1.0, where(ge(x, beta), 1.0, x / Arg(beta)));
  return math.down(slope * scaled_grad(in, math));
}

Arg huber_gradient(Call& in) {
  const Opmath math(in.type("self").dtype);
  const double delta = in.real("delta");
  const Arg x = math.up(contiguous(in["self"])) - math.up(contiguous(in["target"]));
  return math.down(clamp(x, -delta, delta) * scaled_grad(in, math));
}

Arg soft_margin_gradient(Call& in) {
  const Opmath math(in.type("self").dtype);
  const Arg x = math.up(in["self"]), y = math.up(in["target"]), z = exp(-y * x);
  const double norm = in.integer("reduction") == 1
                          ? 1.0 / static_cast<double>(numel(in.type("self")).value())
                          : 1.0;
  return math.down(y * z * Arg(-norm) / (z + 1.0) * math.up(in["grad_output"]));
}

Arg bce_gradient(Call& in) {
  if (!is_contiguous(in.type("self"))) in.unsupported("the decomposition in another layout");
  const Opmath math(in.type("self").dtype);
  const Arg x = math.up(contiguous(in["self"])), y = math.up(contiguous(in["target"]));
  Arg slope = (x - y) / clamp_min((1.0 - x) * x, 1e-12);
  if (in.has("weight")) slope = slope * math.up(in["weight"]);
  return math.down(slope * scaled_grad(in, math));
}

}  // namespace

Arg aten_reduction(const Call& in) {
  const std::string_view text = in.text("reduction");
  return Arg(text == "mean" ? 1 : text == "sum" ? 2 : 0);
}

// `backward(grad, input, target, …)`, and with the operands swapped for the target, which these
// losses treat alike.
Args symmetric_loss_vjp(Call& in, const Symbol& backward, const Arg& grad, const Arg& extra) {
  Arg x = in["input"], y = in["target"];
  if (in.type("input").dtype != in.type("target").dtype) in.unsupported("operands of two dtypes");
  const TensorProxy* both[] = {x.tensor(), y.tensor()};
  const Dims shape = meta::broadcast(in, both);
  if (!(x.tensor()->type.shape == shape)) x = expand(x, in.dims_arg(shape));
  if (!(y.tensor()->type.shape == shape)) y = expand(y, in.dims_arg(shape));
  const auto gradient = [&](const Arg& own, const Arg& other) {
    Args args{grad, own, other, aten_reduction(in)};
    if (!extra.is_none()) args.push_back(extra);
    return in.builder().call(backward, args);
  };
  return grads_of(in, {{"input", wants_grad(in, "input") ? gradient(x, y) : Arg()},
                       {"target", wants_grad(in, "target") ? gradient(y, x) : Arg()}});
}

constinit const Symbol nll_loss_forward{
    .schema =
        "nll_loss_forward(Tensor self, Tensor target, Tensor? weight, int reduction, "
        "int ignore_index) -> (Tensor, Tensor)",
    .torch = "torch.ops.aten.nll_loss_forward",
    .tags = kPure | kReduction | kFirstDifferentiable,
    .meta = nll_forward_meta,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return nll_vjp(nll_loss_backward, in, out, grad);
    },
};
constinit const Symbol nll_loss_backward{
    .schema =
        "nll_loss_backward(Tensor grad_output, Tensor self, Tensor target, Tensor? weight, "
        "int reduction, int ignore_index, Tensor total_weight) -> Tensor",
    .torch = "torch.ops.aten.nll_loss_backward",
    .tags = kPure,
    .meta =
        [](Call& in) {
          const TensorType& x = in.type("self");
          return meta::fresh(in, x, x.shape, x.dtype);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return nll_backward_vjp(nll_loss_forward, in, grad);
    },
};
constinit const Symbol nll_loss2d_forward{
    .schema =
        "nll_loss2d_forward(Tensor self, Tensor target, Tensor? weight, int reduction, "
        "int ignore_index) -> (Tensor, Tensor)",
    .torch = "torch.ops.aten.nll_loss2d_forward",
    .tags = kPure | kReduction | kFirstDifferentiable,
    .meta = nll_forward_meta,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return nll_vjp(nll_loss2d_backward, in, out, grad);
    },
};
constinit const Symbol nll_loss2d_backward{
    .schema =
        "nll_loss2d_backward(Tensor grad_output, Tensor self, Tensor target, Tensor? weight, "
        "int reduction, int ignore_index, Tensor total_weight) -> Tensor",
    .torch = "torch.ops.aten.nll_loss2d_backward",
    .tags = kPure,
    .meta =
        [](Call& in) {
          TensorType out = in.type("self");
          out.strides = meta::preserved_strides(out);
          return in.make(std::move(out));
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return nll_backward_vjp(nll_loss2d_forward, in, grad);
    },
};
constinit const Symbol mse_loss_backward{
    .schema =
        "mse_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction) -> "
        "Tensor",
    .torch = "torch.ops.aten.mse_loss_backward",
    .tags = kPure | kPointwise,
    .meta = loss_backward_meta,
    .decompose = mse_gradient,
};
constinit const Symbol smooth_l1_loss_backward{
    .schema =
        "smooth_l1_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction, "
        "float beta) -> Tensor",
    .torch = "torch.ops.aten.smooth_l1_loss_backward",
    .tags = kPure | kPointwise,
    .meta = loss_backward_meta,
    .decompose = smooth_l1_gradient,
};
constinit const Symbol huber_loss_backward{
    .schema =
        "huber_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction, "
        "float delta) -> Tensor",
    .torch = "torch.ops.aten.huber_loss_backward",
    .tags = kPure | kPointwise,
    .meta = loss_backward_meta,
    .decompose = huber_gradient,
};
constinit const Symbol binary_cross_entropy_backward{
    .schema =
        "binary_cross_entropy_backward(Tensor grad_output, Tensor self, Tensor target, "
        "Tensor? weight=None, int reduction=1) -> Tensor",
    .torch = "torch.ops.aten.binary_cross_entropy_backward",
    .tags = kPure | kPointwise,
    .meta =
        [](Call& in) {
          const Arg grad = loss_backward_meta(in);
          TensorType out = grad.tensor()->type;
          out.strides = meta::preserved_strides(in.type("self"));
          return in.make(std::move(out));
        },
    .decompose = bce_gradient,
};
constinit const Symbol soft_margin_loss_backward{
    .schema =
        "soft_margin_loss_backward(Tensor grad_output, Tensor self, Tensor target, "
        "int reduction) -> Tensor",
    .torch = "torch.ops.aten.soft_margin_loss_backward",
    .tags = kPure | kPointwise,
    .meta =
        [](Call& in) {
          const DType dtype = loss_backward_meta(in).tensor()->type.dtype;
          const Arg operands[] = {in["target"], in["self"]};
          return meta::iterate(in, operands, dtype, dtype);
        },
    .decompose = soft_margin_gradient,
};

}  // namespace fulmen::ops
