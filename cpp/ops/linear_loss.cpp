#include "ops/linear_loss.h"

#include "ops/check.h"
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/loss.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/shape.h"
#include "ops/softmax.h"

// A linear layer and the cross-entropy of its results in one operation, which need not keep the
// results; see passes/fuse_losses.h.
namespace fulmen::ops {
namespace {

DType loss_dtype(const Call& in) {
  return in.flag("upcast") ? DType::kFloat32 : in.type("input").dtype;
}

// Gradients are rounded to a half type once, when they are scaled.
DType kept_dtype(DType t) { return t == DType::kFloat64 ? t : DType::kFloat32; }

Arg loss_meta(Call& in) {
  const TensorType &x = in.type("input"), &w = in.type("weight"), &y = in.type("target");
  meta::require(in, x.dtype, meta::kFloats);
  if (x.ndim() != 2 || w.ndim() != 2 || y.ndim() != 1 ||
      !check::equal(in, x.shape[1], w.shape[1]) || !check::equal(in, x.shape[0], y.shape[0]) ||
      x.dtype != w.dtype) {
    in.unsupported("operands of these shapes or dtypes");
  }
  return meta::fresh(in, x, {}, loss_dtype(in));
}

Arg loss_steps(Call& in) {
  Arg scores = linear(in["input"], in["weight"], in["bias"]);
  if (in.flag("upcast")) scores = Opmath(in.type("input").dtype).up(scores);
  return record(cross_entropy, {scores, in["target"], Arg(), Arg(), in["ignore_index"], Arg(),
                                in["reduction"], Arg(0.0)});
}

Arg with_gradients(Call& in) {
  const auto wanted = [&](std::string_view param) {
    const TensorProxy* t = in.opt_tensor(param);
    return Arg(t && t->type.requires_grad);
  };
  const Arg all =
      record(linear_cross_entropy_forward,
             {in["input"], in["weight"], in["bias"], in["target"], in["ignore_index"],
              in["reduction"], in["upcast"], wanted("input"), wanted("weight"), wanted("bias")});
  return item(all, 0);
}

// (loss, the gradients of it that are asked for)
Arg forward_meta(Call& in) {
  const auto gradient = [&](std::string_view param, std::string_view wanted) {
    if (!in.flag(wanted)) return Arg();
    const TensorType& t = in.type(param);
    return meta::fresh(in, t, t.shape, kept_dtype(t.dtype));
  };
  return in.tuple({meta::fresh(in, in.type("input"), {}, loss_dtype(in)),
                   gradient("input", "for_input"), gradient("weight", "for_weight"),
                   gradient("bias", "for_bias")});
}

Arg forward_steps(Call& in) {
  const Opmath math(in.type("input").dtype);
  const auto wide = [&](std::string_view param) {
    return in.has(param) ? math.up(in[param]) : Arg();
  };
  const Arg loss =
      record(linear_cross_entropy, {in["input"], in["weight"], in["bias"], in["target"],
                                    in["ignore_index"], in["reduction"], in["upcast"]});
  const Arg x = wide("input"), w = wide("weight");
  const Arg scores = log_softmax(linear(x, w, wide("bias")), Arg(1));
  const Arg reduction = aten_reduction(in);
  const Arg nll =
      record(nll_loss_forward, {scores, in["target"], Arg(), reduction, in["ignore_index"]});
  const Arg slope = record(nll_loss_backward, {ones_like(item(nll, 0)), scores, in["target"], Arg(),
                                               reduction, in["ignore_index"], item(nll, 1)});
  const Arg slopes =
      record(log_softmax_backward_data, {slope, scores, Arg(1), Arg(scores.tensor()->type.dtype)});
  return in.tuple({loss, in.flag("for_input") ? mm(slopes, w) : Arg(),
                   in.flag("for_weight") ? mm(t(slopes), x) : Arg(),
                   in.flag("for_bias") ? sum_dim(slopes, Arg(0)) : Arg()});
}

Args forward_vjp(Call& in, const Arg& out, const Arg& grad) {
  for (size_t i = 1; i < 4; ++i) {
    if (!part(grad, i).is_none()) in.unsupported("second derivatives");
  }
  const Arg own = part(grad, 0);
  if (own.is_none()) return Args(in.size(), Arg());
  const Arg dtype(in.type("input").dtype);
  const auto scaled = [&](size_t i) {
    if (item(out, i).is_none()) return Arg();
    return record(scaled_gradient, {item(out, i), own, dtype, Arg(false)});
  };
  return grads_of(in, {{"input", scaled(1)}, {"weight", scaled(2)}, {"bias", scaled(3)}});
}

}  // namespace

constinit const Symbol linear_cross_entropy{
    .schema =
        "linear_cross_entropy(Tensor input, Tensor weight, Tensor? bias, Tensor target, "
        "int ignore_index, str reduction, bool upcast) -> Tensor",
    .torch = "fulmen.losses.linear_cross_entropy",
    .tags = kPure | kMatmul,
    .meta = loss_meta,
    .decompose = loss_steps,
    .augmented = with_gradients,
    .aten = "-",
};
constinit const Symbol linear_cross_entropy_forward{
    .schema =
        "linear_cross_entropy_forward(Tensor input, Tensor weight, Tensor? bias, Tensor target, "
        "int ignore_index, str reduction, bool upcast, bool for_input, bool for_weight, "
        "bool for_bias) -> (Tensor, Tensor, Tensor, Tensor)",
    .torch = "fulmen.losses.linear_cross_entropy_forward",
    .tags = kPure | kMatmul,
    .meta = forward_meta,
    .decompose = forward_steps,
    .vjp = forward_vjp,
    .aten = "-",
};
// A gradient that the forward computed, times that of the loss. `last`: nothing else in the program
// reads it, so that it may be written to where nobody outside has it.
constinit const Symbol scaled_gradient{
    .schema =
        "scaled_gradient(Tensor gradient, Tensor factor, dtype dtype, bool last=False) -> Tensor",
    .torch = "fulmen.losses.scaled_gradient",
    .tags = kPure,
    .meta =
        [](Call& in) {
          const TensorType& t = in.type("gradient");
          return meta::fresh(in, t, t.shape, *in.dtype("dtype"));
        },
    .decompose =
        [](Call& in) { return Opmath(*in.dtype("dtype")).down(in["gradient"] * in["factor"]); },
    .aten = "-",
};

std::span<const Symbol* const> linear_loss_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_LINEAR_LOSS_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
