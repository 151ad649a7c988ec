#include <cmath>
#include <limits>

#include "ops/arith.h"
#include "ops/attention.h"
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/matmul.h"
#include "ops/meta.h"
#include "ops/random.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/softmax.h"

// Attention in the forms whose gradients ATen knows: its flash kernel for CPU, and the steps that
// run where that kernel does not fit.
namespace fulmen::ops {
namespace {

// Fresh, and contiguous once dimensions 1 and 2 are swapped.
Arg swapped_fresh(Call& in, const TensorType& like, const Dims& shape, DType dtype) {
  Dims swapped = shape;
  std::swap(swapped[1], swapped[2]);
  TensorType out = like;
  out.dtype = dtype;
  out.shape = shape;
  out.strides = contiguous_strides(swapped);
  std::swap(out.strides[1], out.strides[2]);
  return in.make(std::move(out));
}

void check_flash(Call& in) {
  for (const std::string_view param : {"query", "key", "value"}) {
    const TensorType& t = in.type(param);
    meta::require(in, t.dtype, meta::kFloats);
    if (t.ndim() != 4 || t.device.type != DeviceType::kCPU || t.dtype != in.type("query").dtype) {
      in.unsupported(param, " of another rank, dtype or device");
    }
  }
}

// (output, logsumexp)
Arg flash_meta(Call& in) {
  check_flash(in);
  if (in.real("dropout_p") != 0) in.unsupported("dropout");
  const TensorType& query = in.type("query");
  TensorType out = query;
  out.strides = meta::preserved_strides(query);
  const Dims rows(std::span<const Dim>(query.shape.data(), 3));
  const DType sums = query.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return in.tuple({in.make(std::move(out)), swapped_fresh(in, query, rows, sums)});
}

Arg flash_backward_meta(Call& in) {
  check_flash(in);
  const auto like = [&](std::string_view param) {
    const TensorType& t = in.type(param);
    return swapped_fresh(in, t, t.shape, t.dtype);
  };
  return in.tuple({like("query"), like("key"), like("value")});
}

Args flash_vjp(Call& in, const Arg& out, const Arg& grad) {
  if (item(grad, 0).is_none()) return Args(in.size(), Arg());
  const Arg all =
      record(flash_attention_backward,
             {item(grad, 0), in["query"], in["key"], in["value"], item(out, 0), item(out, 1),
              in["dropout_p"], in["is_causal"], in["attn_mask"], in["scale"]});
  return grads_of(in, {{"query", item(all, 0)}, {"key", item(all, 1)}, {"value", item(all, 2)}});
}

// A bool mask as what is added to the scores.
Arg additive_mask(const Arg& mask, DType dtype) {
  if (mask.is_none() || mask.tensor()->type.dtype != DType::kBool) return mask;
  const Arg lowest = -std::numeric_limits<double>::infinity();
  TensorType like = mask.tensor()->type;
  like.dtype = dtype;
  const Arg zero = scalar_tensor_like(Builder::current(), Arg(0.0), like);
  return where(mask, zero, lowest);
}

int64_t size(const TensorType& t, size_t from_end) { return t.shape[t.ndim() - from_end].value(); }

double scale_of(const Call& in) {
  if (in.has("scale")) return in.real("scale");
  return 1.0 / std::sqrt(static_cast<double>(size(in.type("query"), 1)));
}

Arg causal_mask(Call& in) {
  const TensorType& query = in.type("query");
  const Dim sizes[] = {query.shape[query.ndim() - 2],
                       in.type("key").shape[in.type("key").ndim() - 2]};
  const Arg all = record(ones, {in.dims_arg(sizes), Arg(DType::kBool), Arg(), Arg(query.device),
                                Arg(false), Arg(false)});
  return tril(all);
}

// The key or value with a copy of each head for each of the query's heads that share it.
Arg for_all_heads(Call& in, const Arg& a) {
  const int64_t heads = size(in.type("query"), 3), own = size(a.tensor()->type, 3);
  if (!in.flag("enable_gqa") || heads == own) return a;
  return repeat_interleave(a, heads / own, -3);
}

// As at::_scaled_dot_product_attention_math: scaled before the product, in float32 for half types.
Arg products(Call& in) {
  const DType dtype = in.type("query").dtype;
  const Opmath math(dtype);
  const double scale = scale_of(in), root = std::sqrt(std::abs(scale));
  Arg mask = in["attn_mask"];
  if (in.flag("is_causal")) mask = causal_mask(in);
  const DType computed = math.up(in["query"]).tensor()->type.dtype;
  mask = additive_mask(mask, computed);
  const Arg query = math.up(in["query"]) * Arg(scale < 0 ? -root : root);
  const Arg key = for_all_heads(in, math.up(in["key"]));
  const Arg value = for_all_heads(in, math.up(in["value"]));
  Arg scores = matmul(query, record(transpose, {key, Arg(-2), Arg(-1)}) * Arg(root));
  if (!mask.is_none()) {
    if (mask.tensor()->type.dtype != computed) mask = converted(mask, computed);
    scores = scores + mask;
  }
  Arg weights = safe_softmax(scores, -1);
  if (in.real("dropout_p") > 0)
    weights = record(dropout_train, {weights, in["dropout_p"], Arg(true)});
  return math.down(matmul(weights, value));
}

}  // namespace

Arg attention_steps(Call& in) {
  if (!attention_takes_flash(in)) return products(in);
  const Arg mask = additive_mask(in["attn_mask"], in.type("query").dtype);
  return item(record(flash_attention, {in["query"], in["key"], in["value"], in["dropout_p"],
                                       in["is_causal"], mask, in["scale"]}),
              0);
}

constinit const Symbol flash_attention{
    .schema =
        "_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, "
        "float dropout_p=0.0, bool is_causal=False, *, Tensor? attn_mask=None, "
        "float? scale=None) -> (Tensor, Tensor)",
    .torch = "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu",
    .tags = kPure | kMatmul | kFirstDifferentiable,
    .meta = flash_meta,
    .vjp = flash_vjp,
};
constinit const Symbol flash_attention_backward{
    .schema =
        "_scaled_dot_product_flash_attention_for_cpu_backward(Tensor grad_out, Tensor query, "
        "Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, "
        "bool is_causal, *, Tensor? attn_mask=None, float? scale=None) -> "
        "(Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward",
    .tags = kPure | kMatmul,
    .meta = flash_backward_meta,
};

}  // namespace fulmen::ops
