#include "codegen/open.h"

#include "codegen/form.h"
#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ops/activation.h"
#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/loss.h"
#include "ops/ordering.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::codegen {
namespace {

using namespace ops;

// The loss of every row, unreduced; nothing of it where the target is `ignore_index`.
Arg row_losses(const Arg& x, Call& in) {
  return record(nll_loss, {x, in["target"], Arg(), Arg(), in["ignore_index"], Arg(), "none"});
}

// log(Σ e^x) - x[target], with the largest element taken off as eager does.
Arg row_cross_entropies(Call& in, const Opmath& math) {
  const Arg x = math.up(in["input"]), dim(1);
  const Arg largest = amax(x, dim, false);
  const Arg sum = sum_dim(exp(x - record(unsqueeze, {largest, dim})), dim, false);
  const Arg losses = log(sum) + (row_losses(x, in) + largest);
  return where(eq(in["target"], in["ignore_index"]), 0.0, losses);
}

Arg counted(Call& in) { return sum(ne(in["target"], in["ignore_index"])); }

// Whether rows of scores meet class indices, without weights.
bool covers(Call& in, std::string_view scores) {
  const TensorType &x = in.type(scores), &y = in.type("target");
  if (x.ndim() != 2 || y.ndim() != 1 || y.dtype != DType::kInt64 || in.has("weight")) return false;
  for (const Dim d : x.shape) {
    if (!d.is_concrete() || d.value() == 0 || d.value() >= int64_t{1} << 31) return false;
  }
  return is_fused_dtype(x.dtype) && is_floating(x.dtype) && in["ignore_index"].is_int();
}

Arg open_loss(Call& in) {
  const bool scores_given = &in.symbol() == &nll_loss;
  const std::string_view reduction = in.text("reduction");
  if (!covers(in, "input") || !in["reduce"].is_none() || !in["size_average"].is_none()) return {};
  if (scores_given ? reduction == "none" : in.real("label_smoothing") != 0) return {};
  const Opmath math(in.type("input").dtype);
  const Arg losses =
      scores_given ? row_losses(math.up(in["input"]), in) : row_cross_entropies(in, math);
  if (reduction == "none") return math.down(losses);
  if (reduction == "sum") return math.down(sum(losses));
  return math.down(sum(losses) / counted(in));
}

// (loss, how many rows count)
Arg open_forward(Call& in) {
  const TensorType& x = in.type("self");
  const int64_t reduction = in.integer("reduction");
  if (!covers(in, "self") || reduction == 0) return {};
  if (x.dtype != DType::kFloat32 && x.dtype != DType::kFloat64) return {};
  const Arg total = sum(row_losses(in["self"], in)), count = converted(counted(in), x.dtype);
  return in.tuple({reduction == 1 ? total / count : total, count});
}

}  // namespace

std::vector<const BoundSymbol*> opened(const BoundSymbol& bsym,
                                       const std::shared_ptr<TraceContext>& ctx) {
  const Symbol* s = bsym.symbol;
  const bool loss = s == &cross_entropy || s == &nll_loss;
  if (!loss && s != &nll_loss_forward) return {};
  bool recorded = false;  // by autograd
  for_each_proxy(bsym.output,
                 [&](const Proxy* p) { recorded = recorded || as_tensor(p)->type.requires_grad; });
  if (recorded) return {};
  Builder builder(ctx);
  builder.source = bsym.source;
  builder.grad_enabled = false;
  Call call(*s, bsym.args, builder);
  const Arg out = loss ? open_loss(call) : open_forward(call);
  if (out.is_none()) return {};
  Substitution map;
  map.bind(out, bsym.output);
  std::vector<const BoundSymbol*> body;
  for (const BoundSymbol* b : builder.body()) body.push_back(map.apply(*ctx, *b));
  return body;
}

}  // namespace fulmen::codegen
