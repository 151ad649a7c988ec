#include "ops/composite_loss.h"

#include <numbers>

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/families.h"
#include "ops/indexing.h"
#include "ops/norm.h"
#include "ops/reduction.h"
#include "ops/select.h"

// Losses that have no kernel of their own: in the steps in which ATen computes them.
namespace fulmen::ops {
namespace {

// By ATen's number of the reduction.
Arg reduced(Call& in, const Arg& losses) {
  const int64_t kind = in.integer("reduction");
  if (kind < 0 || kind > 2) in.unsupported("reduction ", kind);
  return kind == 0 ? losses : kind == 1 ? mean(losses) : sum(losses);
}

Arg triplet_steps(Call& in) {
  const Arg anchor = in["anchor"], positive = in["positive"], negative = in["negative"];
  const size_t ndim = in.type("anchor").ndim();
  if (in.type("positive").ndim() != ndim || in.type("negative").ndim() != ndim)
    in.unsupported("operands of several ranks");  // which eager refuses
  const auto distance = [&](const Arg& a, const Arg& b) {
    return pairwise_distance(a, b, in["p"], in["eps"]);
  };
  const Arg near = distance(anchor, positive);
  Arg far = distance(anchor, negative);
  if (in.flag("swap")) far = minimum(far, distance(positive, negative));
  return reduced(in, clamp_min(in["margin"] + near - far, 0));
}

Arg poisson_steps(Call& in) {
  const Arg x = in["input"], y = in["target"];
  Arg loss = in.flag("log_input") ? exp(x) - y * x : x - y * log(x + in["eps"]);
  if (in.flag("full")) {
    const Arg stirling = y * log(y) - y + log(y * (2 * std::numbers::pi)) * 0.5;
    loss = loss + masked_fill(stirling, le(y, 1), 0);
  }
  return reduced(in, loss);
}

}  // namespace

// The default reduction is that of torch.triplet_margin_loss, which is not ATen's.
constinit const Symbol triplet_margin_loss{
    .schema =
        "triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, "
        "float p=2.0, float eps=1e-06, bool swap=False, int reduction=0) -> Tensor",
    .torch = "torch.triplet_margin_loss",
    .tags = kPure | kReduction,
    .decompose = triplet_steps,
    .augmented = triplet_steps,
    .aten = "triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction)",
};
constinit const Symbol poisson_nll_loss{
    .schema =
        "poisson_nll_loss(Tensor input, Tensor target, bool log_input, bool full, float eps, "
        "int reduction) -> Tensor",
    .torch = "torch.poisson_nll_loss",
    .tags = kPure | kReduction,
    .decompose = poisson_steps,
    .augmented = poisson_steps,
};

std::span<const Symbol* const> composite_loss_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_COMPOSITE_LOSS_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
