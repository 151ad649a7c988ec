#include "ops/activation.h"
#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/gradient.h"
#include "ops/indexing.h"
#include "ops/loss.h"
#include "ops/meta.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/softmax.h"
#include "ops/special.h"

// Losses in the steps that at:: takes, whose order decides the bits of value and gradient.
namespace fulmen::ops {
namespace {

Arg reduced_loss(Call& in, const Arg& losses) {
  const std::string_view text = in.text("reduction");
  return text == "mean" ? mean(losses) : text == "sum" ? sum(losses) : losses;
}

Arg nll(const Arg& scores, Call& in) {
  return record(nll_loss, {scores, in["target"], in["weight"], Arg(), in["ignore_index"], Arg(),
                           in["reduction"]});
}

size_t class_dim(const TensorType& x) { return x.ndim() == 1 ? 0 : 1; }

// The classes' weights, shaped to multiply scores.
Arg class_weights(Call& in, const TensorType& x) {
  Args shape(x.ndim(), Arg(1));
  shape[class_dim(x)] = Arg(-1);
  return record(view, {in["weight"], in.list(shape)});
}

// Class probabilities as target.
Arg cross_entropy_of_probabilities(Call& in) {
  const TensorType& x = in.type("input");
  const Arg dim(static_cast<int64_t>(class_dim(x)));
  const Dim classes = x.shape[class_dim(x)];
  const Arg scores = log_softmax(in["input"], dim);
  Arg target = in["target"];
  const double smoothing = in.real("label_smoothing");
  if (smoothing > 0) {
    const double each = smoothing / static_cast<double>(classes.value());
    target = target * Arg(1 - smoothing) + Arg(each);
  }
  Arg products = scores * target;
  if (in.has("weight")) products = products * class_weights(in, x);
  if (in.text("reduction") == "none") return -sum_dim(products, dim);
  if (in.text("reduction") == "sum") return -sum(products);
  if (x.ndim() == 1) return -sum(products);
  const Dim samples = numel(x).value() / std::max<int64_t>(classes.value(), 1);
  return -sum(products) / Arg(samples);
}

Arg cross_entropy_smoothed(Call& in) {
  const TensorType& x = in.type("input");
  const Arg dim(static_cast<int64_t>(class_dim(x)));
  const double smoothing = in.real("label_smoothing");
  if (in.has("weight") && in.text("reduction") == "mean") {
    in.unsupported("label smoothing with weights, which gathers them");
  }
  const Arg scores = log_softmax(in["input"], dim);
  const Arg plain = nll(scores, in);
  const Arg weighted = in.has("weight") ? scores * class_weights(in, x) : scores;
  Arg smooth = -sum_dim(weighted, dim);
  const Arg ignored = eq(in["target"], in["ignore_index"]);
  smooth = masked_fill(smooth, ignored, 0.0);
  if (in.text("reduction") == "sum") smooth = sum(smooth);
  if (in.text("reduction") == "mean") {
    smooth = sum(smooth) / sum(logical_not(ignored));
  }
  const double classes = static_cast<double>(x.shape[class_dim(x)].value());
  return plain * Arg(1 - smoothing) + smooth * Arg(smoothing / classes);
}

}  // namespace

Arg cross_entropy_steps(Call& in) {
  const TensorType &x = in.type("input"), &y = in.type("target");
  if (x.ndim() == y.ndim() && x.shape == y.shape && is_floating(y.dtype)) {
    return cross_entropy_of_probabilities(in);
  }
  if (in.real("label_smoothing") != 0) return cross_entropy_smoothed(in);
  return nll(log_softmax(in["input"], Arg(static_cast<int64_t>(class_dim(x)))), in);
}

Arg nll_loss_steps(Call& in) {
  const TensorType &x = in.type("input"), &y = in.type("target");
  const auto forward = [&](const Symbol& symbol, const Arg& input, const Arg& target) {
    return item(
        record(symbol, {input, target, in["weight"], aten_reduction(in), in["ignore_index"]}), 0);
  };
  if (x.ndim() <= 2) return forward(nll_loss_forward, in["input"], in["target"]);
  if (x.ndim() == 4) return forward(nll_loss2d_forward, in["input"], in["target"]);
  if (numel(x).value() == 0) in.unsupported("an empty input");
  const Dim four[] = {x.shape[0], x.shape[1], Dim(1), Dim(-1)};
  const Dim three[] = {x.shape[0], Dim(1), Dim(-1)};
  const Arg input = record(view, {contiguous(in["input"]), in.dims_arg(four)});
  const Arg target = record(view, {contiguous(in["target"]), in.dims_arg(three)});
  const Arg loss = forward(nll_loss2d_forward, input, target);
  if (in.text("reduction") != "none") return loss;
  return record(view, {loss, in.dims_arg(y.shape)});
}

Arg kl_div_steps(Call& in) {
  const Arg x = in["input"], y = in["target"];
  const Arg losses = in.flag("log_target") ? exp(y) * (y - x) : xlogy(y, y) - y * x;
  return reduced_loss(in, losses);
}

Arg hinge_embedding_steps(Call& in) {
  const Arg x = in["input"], y = in["target"];
  const Arg margin = clamp_min(in["margin"] - x, 0);
  return reduced_loss(in, where(ne(y, 1), margin, 0.0) + where(ne(y, -1), x, 0.0));
}

Arg margin_ranking_steps(Call& in) {
  const Arg difference = in["input1"] - in["input2"];
  return reduced_loss(in, clamp_min(-in["target"] * difference + in["margin"], 0));
}

Arg cosine_embedding_steps(Call& in) {
  const Arg a = in["input1"], b = in["input2"], y = in["target"];
  const Arg dim(static_cast<int64_t>(in.type("target").ndim()));
  const Arg tiny(static_cast<double>(1e-12f));
  const Arg products = sum_dim(a * b, dim);
  const Arg squares = (sum_dim(a * a, dim) + tiny) * (sum_dim(b * b, dim) + tiny);
  const Arg cosine = products / sqrt(squares);
  const Arg apart = clamp_min(cosine - in["margin"], 0);
  return reduced_loss(in, where(eq(y, 1), 1 - cosine, 0.0) + where(eq(y, -1), apart, 0.0));
}

Args bce_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg x = in["input"], y = in["target"];
  Arg own, target;
  if (wants_grad(in, "input")) {
    own = binary_cross_entropy_backward(grad, x, y, in["weight"], aten_reduction(in));
  }
  if (wants_grad(in, "target")) {
    target = -logit(x) * grad;
    if (in.has("weight")) target = target * in["weight"];
    if (in.text("reduction") == "mean") target = target / Arg(numel(in.type("target")));
  }
  return grads_of(in, {{"input", own}, {"target", target}});
}

Args bce_with_logits_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg x = in["input"], y = in["target"];
  const auto finished = [&](Arg g) {
    if (in.has("weight")) g = g * in["weight"];
    return in.text("reduction") == "mean" ? g / Arg(numel(in.type("input"))) : g;
  };
  Arg own, target;
  if (wants_grad(in, "input")) {
    Arg slope = sigmoid(x);
    if (in.has("pos_weight")) {
      const Arg positive = in["pos_weight"] * y;
      slope = (positive + 1 - y) * slope - positive;
    } else {
      slope = slope - y;
    }
    own = finished(slope * grad);
  }
  if (wants_grad(in, "target")) {
    if (in.has("pos_weight")) {
      const Arg log_other = log_sigmoid(-x), log_own = log_sigmoid(x);
      target = finished((log_other - in["pos_weight"] * log_own) * grad);
    } else {
      target = finished(x * -grad);
    }
  }
  return grads_of(in, {{"input", own}, {"target", target}});
}

}  // namespace fulmen::ops
