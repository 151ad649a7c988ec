#include "ops/loss.h"

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/softmax.h"

namespace fulmen::ops {
namespace {

// The deprecated arguments must not be given; the reduction must be known.
std::string_view reduction_of(const Call& in) {
  const Schema& schema = in.symbol().info->schema;
  if ((schema.index("size_average") >= 0 && in.has("size_average")) ||
      (schema.index("reduce") >= 0 && in.has("reduce"))) {
    in.unsupported("size_average and reduce");
  }
  const std::string_view text = in.text("reduction");
  if (text == "batchmean") in.unsupported("reduction='batchmean'");
  if (text != "mean" && text != "sum" && text != "none") {
    in.fail(ErrorKind::kValue, "reduction", text,
            " is not a valid value for reduction; expected 'none', 'mean' or 'sum'");
  }
  return text;
}

Arg scalar_loss(Call& in, const TensorType& like, DType dtype) {
  return meta::fresh(in, like, {}, dtype);
}

// mean(), sum() or the losses themselves.
Arg reduced(Call& in, const Arg& losses) {
  const std::string_view text = in.text("reduction");
  return text == "mean" ? mean(losses) : text == "sum" ? sum(losses) : losses;
}

// --- element by element -------------------------------------------------------------------------

// Of `operands`, the first decides the order of the dimensions where the operands differ.
Arg elementwise_loss(Call& in, std::span<const Arg> operands, DType dtype) {
  meta::require(in, dtype, meta::kFloats);
  const Arg losses = meta::pointwise_with(in, operands, dtype);
  const TensorType& type = losses.tensor()->type;
  return reduction_of(in) == "none" ? losses : scalar_loss(in, type, dtype);
}

// input and target broadcast and promote.
Arg broadcast_loss_meta(Call& in) {
  const Schema& schema = in.symbol().info->schema;
  if (schema.index("weight") >= 0 && in.has("weight")) in.unsupported("weight");
  const Arg operands[] = {in["input"], in["target"]};
  return elementwise_loss(in, operands, meta::result_type(in, operands));
}

Arg same_dtype_loss_meta(Call& in) {
  if (in.type("input").dtype != in.type("target").dtype) in.unsupported("operands of two dtypes");
  return broadcast_loss_meta(in);
}

Arg target_first_loss_meta(Call& in) {
  const Arg operands[] = {in["target"], in["input"]};
  if (is_integral(in.type("target").dtype)) in.unsupported("an integer target");
  return elementwise_loss(in, operands, meta::result_type(in, operands));
}

void require_target_size(const Call& in) {
  const TensorType& x = in.type("input");
  const TensorType& y = in.type("target");
  if (check::equal(in, x.shape, y.shape)) return;
  in.fail(ErrorKind::kValue, "target-shape", "the target's shape ", meta::shape_text(y.shape),
          " must be that of the input ", meta::shape_text(x.shape));
}

// A weight must broadcast into the losses, which it scales in place.
void require_weight_fits(const Call& in, std::string_view param) {
  const TensorProxy* w = in.opt_tensor(param);
  if (!w) return;
  check::no_grad_needed(in, param);
  const TensorType& x = in.type("input");
  if (w->type.dtype != x.dtype) in.unsupported(param, " of another dtype");
  if (!(meta::broadcast(in, x.shape, w->type.shape) == x.shape)) {
    in.unsupported(param, " larger than the input");
  }
}

Arg bce_meta(Call& in) {
  require_target_size(in);
  check::same_dtype(in, {&in.tensor("input"), &in.tensor("target")});
  require_weight_fits(in, "weight");
  check::device(in, {&in.tensor("input"), &in.tensor("target"), in.opt_tensor("weight")});
  const Arg operands[] = {in["input"], in["target"]};
  return elementwise_loss(in, operands, in.type("input").dtype);
}

Arg bce_with_logits_meta(Call& in) {
  require_target_size(in);
  if (in.type("input").dtype != in.type("target").dtype) in.unsupported("operands of two dtypes");
  require_weight_fits(in, "weight");
  require_weight_fits(in, "pos_weight");
  check::device(in, {&in.tensor("input"), &in.tensor("target"), in.opt_tensor("weight"),
                     in.opt_tensor("pos_weight")});
  // ATen starts from 1 - target.
  const Arg operands[] = {in["target"]};
  return elementwise_loss(in, operands, in.type("input").dtype);
}

Arg kl_div_batchmean_meta(Call& in) {
  if (in.text("reduction") != "batchmean") in.unsupported("another reduction");
  if (in.has("size_average") || in.has("reduce")) in.unsupported("size_average and reduce");
  if (in.type("input").ndim() == 0) in.unsupported("a 0-d input");
  const Arg operands[] = {in["target"], in["input"]};
  const DType dtype = meta::result_type(in, operands);
  meta::require(in, dtype, meta::kFloats);
  if (is_integral(in.type("target").dtype)) in.unsupported("an integer target");
  const Arg losses = meta::pointwise_with(in, operands, dtype);
  return scalar_loss(in, losses.tensor()->type, dtype);
}

// The losses of these rows are made in several steps: unreduced, their layout is only sure for
// contiguous operands of one shape.
Arg simple_loss(Call& in, std::initializer_list<const TensorProxy*> operands) {
  const TensorProxy* first = *operands.begin();
  check::device(in, operands);
  for (const TensorProxy* t : operands) {
    if (t->type.dtype != first->type.dtype) in.unsupported("operands of several dtypes");
  }
  meta::require(in, first->type.dtype, meta::kFloats);
  SmallVec<const TensorProxy*, 8> all;
  for (const TensorProxy* t : operands) all.push_back(t);
  const Dims shape = meta::broadcast(in, all);
  if (reduction_of(in) != "none") return scalar_loss(in, first->type, first->type.dtype);
  for (const TensorProxy* t : operands) {
    if (!(t->type.shape == shape) || !(t->type.strides == contiguous_strides(shape))) {
      in.unsupported("unreduced losses of operands that differ or are not contiguous");
    }
  }
  return meta::fresh(in, first->type, shape, first->type.dtype);
}

Arg two_operand_loss_meta(Call& in) {
  return simple_loss(in, {&in.tensor("input"), &in.tensor("target")});
}

Arg margin_ranking_meta(Call& in) {
  const auto& a = in.tensor("input1");
  const auto& b = in.tensor("input2");
  const auto& target = in.tensor("target");
  if (a.type.ndim() != b.type.ndim() || a.type.ndim() != target.type.ndim()) {
    in.fail(ErrorKind::kRuntime, "loss-shape",
            "input1, input2 and target must have the same number of "
            "dimensions; got shapes ",
            meta::shape_text(a.type.shape), ", ", meta::shape_text(b.type.shape), " and ",
            meta::shape_text(target.type.shape));
  }
  return simple_loss(in, {&a, &b, &target});
}

Arg cosine_embedding_meta(Call& in) {
  const TensorType& a = in.type("input1");
  const TensorType& b = in.type("input2");
  const TensorType& target = in.type("target");
  if (target.ndim() > 1 || a.ndim() != target.ndim() + 1 || !(a.shape == b.shape) ||
      a.dtype != b.dtype || !is_floating(a.dtype) ||
      (target.ndim() && !(target.shape[0] == a.shape[0]))) {
    in.unsupported("operands of these shapes or dtypes");
  }
  check::device(in, {&in.tensor("input1"), &in.tensor("input2"), &in.tensor("target")});
  const bool none = reduction_of(in) == "none";
  return none ? meta::fresh(in, a, target.shape, a.dtype) : scalar_loss(in, a, a.dtype);
}

// --- classes ------------------------------------------------------------------------------------

size_t class_dim(const TensorType& x) { return x.ndim() == 1 ? 0 : 1; }

// Checks a target of class indices, which has the input's shape without the class dimension.
void check_class_target(const Call& in) {
  const TensorType& x = in.type("input");
  const TensorType& y = in.type("target");
  if (y.dtype != DType::kInt64 && y.dtype != DType::kUInt8) {
    in.fail(ErrorKind::kRuntime, "target-dtype",
            "expected target dtype to be int64 or uint8, but got ", name(y.dtype));
  }
  Dims expected = x.shape;
  expected.erase(class_dim(x));
  if (y.ndim() == expected.size() && y.ndim() > 0 && !check::equal(in, y.shape[0], expected[0])) {
    in.fail(ErrorKind::kValue, "target-shape", "Expected input batch_size (", expected[0],
            ") to match target batch_size (", y.shape[0], ").");
  }
  if (!check::equal(in, y.shape, expected)) {
    in.fail(ErrorKind::kRuntime, "target-shape", "the target of class indices must have shape ",
            meta::shape_text(expected), " for an input of shape ", meta::shape_text(x.shape),
            "; got ", meta::shape_text(y.shape));
  }
}

void check_class_weight(const Call& in) {
  const TensorProxy* w = in.opt_tensor("weight");
  if (!w) return;
  const TensorType& x = in.type("input");
  if (w->type.dtype != x.dtype) in.unsupported("a weight of another dtype");
  if (w->type.ndim() == 1 && check::equal(in, w->type.shape[0], x.shape[class_dim(x)])) return;
  in.fail(ErrorKind::kRuntime, "loss-shape", "weight must have one value for each of the ",
          x.shape[class_dim(x)], " classes; got shape ", meta::shape_text(w->type.shape));
}

bool has_probabilities(const Call& in) {
  const TensorType& x = in.type("input");
  const TensorType& y = in.type("target");
  return x.ndim() == y.ndim() && check::equal(in, x.shape, y.shape);
}

Arg class_loss(Call& in) {
  const TensorType& x = in.type("input");
  meta::require(in, x.dtype, meta::kFloats);
  check::device(in, {&in.tensor("input"), &in.tensor("target"), in.opt_tensor("weight")});
  check_class_weight(in);
  if (!has_probabilities(in)) check::no_grad_needed(in, "weight");
  if (reduction_of(in) != "none") return scalar_loss(in, x, x.dtype);
  Dims shape = x.shape;
  shape.erase(class_dim(x));
  return meta::fresh(in, x, shape, x.dtype);
}

Arg nll_loss_meta(Call& in) {
  if (in.type("input").ndim() == 0) in.unsupported("a 0-d input");
  check_class_target(in);
  return class_loss(in);
}

Arg cross_entropy_meta(Call& in) {
  if (in.type("input").ndim() == 0) in.unsupported("a 0-d input");
  const double smoothing = in.real("label_smoothing");
  if (smoothing < 0 || smoothing > 1) {
    in.fail(ErrorKind::kRuntime, "label-smoothing",
            "label_smoothing must be between 0.0 and 1.0; got ", smoothing);
  }
  if (has_probabilities(in)) {
    if (in.type("target").dtype != in.type("input").dtype) {
      in.unsupported("class probabilities of another dtype");
    }
    if (in.integer("ignore_index") >= 0) in.unsupported("ignore_index with probabilities");
  } else {
    check_class_target(in);
  }
  return class_loss(in);
}

Arg cross_entropy_decompose(Call& in) {
  const TensorType& x = in.type("input");
  if (has_probabilities(in) || in.real("label_smoothing") != 0) {
    in.unsupported("probabilities or label smoothing in the decomposition");
  }
  const Arg scores = log_softmax(in["input"], Arg(static_cast<int64_t>(class_dim(x))));
  return nll_loss(scores, in["target"], in["weight"], Arg(), in["ignore_index"], Arg(),
                  in["reduction"]);
}

// --- decompositions -----------------------------------------------------------------------------

Arg mse_decompose(Call& in) {
  const Opmath math(in.type("input").dtype);
  const Arg difference = math.up(in["input"]) - math.up(in["target"]);
  return math.down(reduced(in, difference * difference));
}

Arg l1_decompose(Call& in) {
  const Opmath math(in.type("input").dtype);
  return math.down(reduced(in, abs(math.up(in["input"]) - math.up(in["target"]))));
}

Arg smooth_l1_decompose(Call& in) {
  const double beta = in.real("beta");
  if (beta == 0) return l1_decompose(in);
  const Opmath math(in.type("input").dtype);
  const Arg z = abs(math.up(in["input"]) - math.up(in["target"]));
  const Arg inner = z * z * Arg(0.5) / Arg(beta);
  return math.down(reduced(in, where(lt(z, Arg(beta)), inner, z - Arg(0.5 * beta))));
}

Arg huber_decompose(Call& in) {
  const double delta = in.real("delta");
  const Opmath math(in.type("input").dtype);
  const Arg z = abs(math.up(in["input"]) - math.up(in["target"]));
  const Arg outer_part = (z - Arg(0.5 * delta)) * Arg(delta);
  return math.down(reduced(in, where(le(z, Arg(delta)), z * z * Arg(0.5), outer_part)));
}

// log(x), but at least -100, as ATen keeps the loss finite.
Arg bounded_log(const Arg& x) { return clamp_min(log(x), Arg(-100.0)); }

Arg bce_decompose(Call& in) {
  const Opmath math(in.type("input").dtype);
  const Arg x = math.up(in["input"]), y = math.up(in["target"]);
  Arg losses = (y - Arg(1.0)) * clamp_min(log1p(-x), Arg(-100.0)) - y * bounded_log(x);
  if (in.has("weight")) losses = losses * math.up(in["weight"]);
  return math.down(reduced(in, losses));
}

Args smooth_l1_vjp(Call& in, const Arg& grad) {
  if (in.real("beta") == 0) in.unsupported("beta=0, which is l1_loss");
  return symmetric_loss_vjp(in, smooth_l1_loss_backward, grad, Arg(in.real("beta")));
}

}  // namespace

constinit const Symbol cross_entropy{
    .schema =
        "cross_entropy(Tensor input, Tensor target, Tensor? weight=None, "
        "bool? size_average=None, int ignore_index=-100, bool? reduce=None, "
        "str reduction='mean', float label_smoothing=0.0) -> Tensor",
    .torch = "torch.nn.functional.cross_entropy",
    .tags = kPure | kReduction,
    .meta = cross_entropy_meta,
    .decompose = cross_entropy_decompose,
    .augmented = cross_entropy_steps,
    .aten = "cross_entropy_loss(input, target, weight, reduction, ignore_index, label_smoothing)",
};
constinit const Symbol nll_loss{
    .schema =
        "nll_loss(Tensor input, Tensor target, Tensor? weight=None, "
        "bool? size_average=None, int ignore_index=-100, bool? reduce=None, "
        "str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.nll_loss",
    .tags = kPure | kReduction,
    .meta = nll_loss_meta,
    .augmented = nll_loss_steps,
    .aten = "nll_loss_nd(input, target, weight, reduction, ignore_index)",
};
constinit const Symbol mse_loss{
    .schema =
        "mse_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, "
        "str reduction='mean', Tensor? weight=None) -> Tensor",
    .torch = "torch.nn.functional.mse_loss",
    .tags = kPure | kReduction,
    .meta = broadcast_loss_meta,
    .decompose = mse_decompose,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return symmetric_loss_vjp(in, mse_loss_backward, grad);
    },
    .aten = "mse_loss(input, target, reduction)",
};
constinit const Symbol l1_loss{
    .schema =
        "l1_loss(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, "
        "str reduction='mean', Tensor? weight=None) -> Tensor",
    .torch = "torch.nn.functional.l1_loss",
    .tags = kPure | kReduction,
    .meta = broadcast_loss_meta,
    .decompose = l1_decompose,
    .aten = "l1_loss(input, target, reduction)",
};
constinit const Symbol smooth_l1_loss{
    .schema =
        "smooth_l1_loss(Tensor input, Tensor target, bool? size_average=None, "
        "bool? reduce=None, str reduction='mean', float beta=1.0) -> Tensor",
    .torch = "torch.nn.functional.smooth_l1_loss",
    .tags = kPure | kReduction,
    .meta =
        [](Call& in) {
          if (in.real("beta") < 0) in.unsupported("a negative beta");
          return broadcast_loss_meta(in);
        },
    .decompose = smooth_l1_decompose,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return smooth_l1_vjp(in, grad); },
    .aten = "smooth_l1_loss(input, target, reduction, beta)",
};
constinit const Symbol huber_loss{
    .schema =
        "huber_loss(Tensor input, Tensor target, str reduction='mean', float delta=1.0, "
        "Tensor? weight=None) -> Tensor",
    .torch = "torch.nn.functional.huber_loss",
    .tags = kPure | kReduction,
    .meta =
        [](Call& in) {
          if (in.real("delta") <= 0) in.unsupported("a delta that is not positive");
          return same_dtype_loss_meta(in);
        },
    .decompose = huber_decompose,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return symmetric_loss_vjp(in, huber_loss_backward, grad, in["delta"]);
    },
    .aten = "huber_loss(input, target, reduction, delta)",
};
constinit const Symbol binary_cross_entropy{
    .schema =
        "binary_cross_entropy(Tensor input, Tensor target, Tensor? weight=None, "
        "bool? size_average=None, bool? reduce=None, str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.binary_cross_entropy",
    .tags = kPure | kReduction,
    .meta = bce_meta,
    .decompose = bce_decompose,
    .vjp = bce_vjp,
    .aten = "binary_cross_entropy(input, target, weight, reduction)",
};
constinit const Symbol binary_cross_entropy_with_logits{
    .schema =
        "binary_cross_entropy_with_logits(Tensor input, Tensor target, "
        "Tensor? weight=None, bool? size_average=None, bool? reduce=None, "
        "str reduction='mean', Tensor? pos_weight=None) -> Tensor",
    .torch = "torch.nn.functional.binary_cross_entropy_with_logits",
    .tags = kPure | kReduction,
    .meta = bce_with_logits_meta,
    .vjp = bce_with_logits_vjp,
    .aten = "binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)",
};
constinit const Symbol kl_div{
    .schema =
        "kl_div(Tensor input, Tensor target, bool? size_average=None, bool? reduce=None, "
        "str reduction='mean', bool log_target=False) -> Tensor",
    .torch = "torch.nn.functional.kl_div",
    .tags = kPure | kReduction,
    .meta = target_first_loss_meta,
    .augmented = kl_div_steps,
    .aten = "kl_div(input, target, reduction, log_target=log_target)",
};
constinit const Symbol kl_div_batchmean{
    .schema =
        "kl_div.batchmean(Tensor input, Tensor target, bool? size_average=None, "
        "bool? reduce=None, str reduction='mean', bool log_target=False) -> Tensor",
    .torch = "torch.nn.functional.kl_div",
    .tags = kPure | kReduction,
    .meta = kl_div_batchmean_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg total = kl_div(in["input"], in["target"], Arg(), Arg(), "sum", in["log_target"]);
      return total / Arg(in.type("input").shape[0]);
    },
    .aten = "-",
};
constinit const Symbol soft_margin_loss{
    .schema =
        "soft_margin_loss(Tensor input, Tensor target, bool? size_average=None, "
        "bool? reduce=None, str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.soft_margin_loss",
    .tags = kPure | kReduction,
    .meta =
        [](Call& in) {
          check::no_grad_needed(in, "target");
          return two_operand_loss_meta(in);
        },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads_of(in, {{"input", soft_margin_loss_backward(grad, in["input"], in["target"],
                                                               aten_reduction(in))}});
    },
    .aten = "soft_margin_loss(input, target, reduction)",
};
constinit const Symbol hinge_embedding_loss{
    .schema =
        "hinge_embedding_loss(Tensor input, Tensor target, float margin=1.0, "
        "bool? size_average=None, bool? reduce=None, str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.hinge_embedding_loss",
    .tags = kPure | kReduction,
    .meta = two_operand_loss_meta,
    .augmented = hinge_embedding_steps,
    .aten = "hinge_embedding_loss(input, target, margin, reduction)",
};
constinit const Symbol margin_ranking_loss{
    .schema =
        "margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0, "
        "bool? size_average=None, bool? reduce=None, str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.margin_ranking_loss",
    .tags = kPure | kReduction,
    .meta = margin_ranking_meta,
    .augmented = margin_ranking_steps,
    .aten = "margin_ranking_loss(input1, input2, target, margin, reduction)",
};
constinit const Symbol cosine_embedding_loss{
    .schema =
        "cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, "
        "float margin=0, bool? size_average=None, bool? reduce=None, "
        "str reduction='mean') -> Tensor",
    .torch = "torch.nn.functional.cosine_embedding_loss",
    .tags = kPure | kReduction,
    .meta = cosine_embedding_meta,
    .augmented = cosine_embedding_steps,
    .aten = "cosine_embedding_loss(input1, input2, target, margin, reduction)",
};

std::span<const Symbol* const> loss_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_LOSS_OPS(X) FULMEN_LOSS_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
