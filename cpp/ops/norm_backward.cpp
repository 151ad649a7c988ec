#include "ops/arith.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/norm.h"
#include "ops/reduction.h"
#include "ops/shape.h"

// ATen's normalizations with their statistics, and their gradients.
namespace fulmen::ops {
namespace {

Arg vector_like(Call& in, const TensorType& like, Dim size, DType dtype) {
  const Dim shape[] = {size};
  return meta::fresh(in, like, shape, dtype);
}

// Statistics have the parameters' dtype where that is not the input's: float32 for half inputs.
DType stat_dtype(const Call& in, std::initializer_list<std::string_view> params) {
  for (const std::string_view param : params) {
    if (const TensorProxy* t = in.opt_tensor(param)) return t->type.dtype;
  }
  return in.type("input").dtype;
}

void require_cpu(const Call& in) {
  if (in.type("input").device.type != DeviceType::kCPU) {
    in.unsupported("a device whose kernels choose the statistics' dtype");
  }
}

// The gradient of a parameter, or None for a parameter that is missing.
Arg param_grad(Call& in, std::string_view param, std::span<const Dim> shape, DType otherwise) {
  const TensorProxy* t = in.opt_tensor(param);
  return meta::fresh(in, in.type("input"), shape, t ? t->type.dtype : otherwise);
}

// --- second gradients ---------------------------------------------------------------------------

// Of (own, weight, bias) = the gradient of a normalization y = (x - mean) * rstd * weight + bias,
// whose mean and rstd are functions of x. All is broadcast against x; `weight` may be None.
struct SecondGradient {
  Arg x, grad, mean, rstd, weight;
  Arg to_own, to_weight, to_bias;  // what comes back; may be None
  Arg dims;                        // that are normalized
  Arg count;                       // of their elements
  bool by_statistics = true;       // of x; false: mean and rstd are given numbers

  Arg summed(const Arg& a) const { return sum_dim(a, dims, true); }

  // The gradient of `v * (x - mean) * rstd` by x, for a sum over all.
  Arg projected(const Arg& v, const Arg& centered) const {
    if (!by_statistics) return v * rstd;
    const Arg along = summed(v * centered) * (rstd * rstd);
    return (v - summed(v) / count - centered * along / count) * rstd;
  }

  static void add_to(Arg& sum, const Arg& a) { sum = sum.is_none() ? a : sum + a; }

  Arg weighted(const Arg& a) const { return weight.is_none() ? a : a * weight; }

  Arg of_grad() const {
    const Arg centered = x - mean;
    Arg out;
    if (!to_own.is_none()) add_to(out, weighted(projected(to_own, centered)));
    if (!to_weight.is_none()) add_to(out, to_weight * (centered * rstd));
    if (!to_bias.is_none()) add_to(out, to_bias + zeros_as(grad, grad.tensor()->type));
    return out;
  }

  // To be summed over all but the weight's own dimensions.
  Arg of_weight() const { return to_own.is_none() ? Arg() : grad * projected(to_own, x - mean); }

  Arg of_x() const {
    const Arg centered = x - mean;
    Arg out;
    if (!to_own.is_none() && by_statistics) {
      const Arg u = weighted(grad), cubed = rstd * rstd * rstd;
      const Arg u_sum = summed(u), own_sum = summed(to_own);
      const Arg u_along = summed(u * centered), own_along = summed(to_own * centered);
      const Arg both = own_sum * u_sum / count - summed(u * to_own) +
                       rstd * rstd * u_along * own_along * 3.0 / count;
      add_to(out, centered * cubed * both / count);
      add_to(out, own_along * cubed / count * (u_sum / count - u));
      add_to(out, u_along * cubed / count * (own_sum / count - to_own));
    }
    if (!to_weight.is_none()) add_to(out, projected(grad * to_weight, centered));
    return out;
  }
};

// In `type`'s dtype; None stays.
Arg fitted_to(const Arg& a, const TensorType& type) {
  return a.is_none() ? a : converted(a, type.dtype);
}

// --- layer_norm ---------------------------------------------------------------------------------

size_t leading_rank(const Call& in) {
  const size_t trailing = in.dims("normalized_shape").size(), ndim = in.type("input").ndim();
  if (trailing == 0 || trailing > ndim) in.unsupported("a normalized_shape that does not fit");
  return ndim - trailing;
}

Arg dims_from(Call& in, size_t first, size_t last) {
  Args dims;
  for (size_t d = first; d < last; ++d) dims.push_back(Arg(static_cast<int64_t>(d)));
  return in.list(dims);
}

Arg native_layer_norm_meta(Call& in) {
  const TensorType& x = in.type("input");
  require_cpu(in);
  Args args(in.args());
  const Arg out = in.builder().infer(layer_norm, args);
  const size_t lead = leading_rank(in);
  Dims stat = x.shape;
  for (size_t d = lead; d < stat.size(); ++d) stat[d] = 1;
  const DType dtype = stat_dtype(in, {"weight", "bias"});
  return in.tuple({out, meta::fresh(in, x, stat, dtype), meta::fresh(in, x, stat, dtype)});
}

Arg native_layer_norm_decompose(Call& in) {
  const TensorType& type = in.type("input");
  if (is_zero(numel(type))) in.unsupported("an empty input");
  const Opmath math(type.dtype);
  const Arg dims = dims_from(in, leading_rank(in), type.ndim()), x = math.up(in["input"]);
  const Arg average = mean_dim(x, dims, true), centered = x - average;
  const Arg scale = rsqrt(mean_dim(centered * centered, dims, true) + in["eps"]);
  Arg y = centered * scale;
  if (in.has("weight")) y = y * math.up(in["weight"]);
  if (in.has("bias")) y = y + math.up(in["bias"]);
  const DType dtype = stat_dtype(in, {"weight", "bias"});
  return in.tuple({math.down(y), converted(average, dtype), converted(scale, dtype)});
}

Arg layer_norm_backward_meta(Call& in) {
  const TensorType& x = in.type("input");
  meta::require(in, x.dtype, meta::kFloats);
  require_cpu(in);
  const Dims shape = in.dims("normalized_shape");
  const DType other = stat_dtype(in, {"weight", "bias"});
  return masked_results(
      in, {meta::fresh(in, x, x.shape, x.dtype), param_grad(in, "weight", shape, other),
           param_grad(in, "bias", shape, other)});
}

Arg layer_norm_backward_decompose(Call& in) {
  const TensorType& type = in.type("input");
  if (is_zero(numel(type))) in.unsupported("an empty input");
  const Opmath math(type.dtype);
  const size_t lead = leading_rank(in);
  const Arg inner = dims_from(in, lead, type.ndim()), outer = dims_from(in, 0, lead);
  const Arg g = math.up(in["grad_out"]), scale = math.up(in["rstd"]);
  const Arg normal = (math.up(in["input"]) - math.up(in["mean"])) * scale;
  const auto summed = [&](const Arg& a, std::string_view param) {
    const Arg total = lead ? sum_dim(a, outer) : a;
    return in.has(param) ? converted(total, in.type(param).dtype) : total;
  };
  Arg own, weight, bias;
  const auto mask = in["output_mask"].items();
  if (mask[0].boolean()) {
    const Arg weighted = in.has("weight") ? g * math.up(in["weight"]) : g;
    const Arg along = mean_dim(weighted * normal, inner, true);
    own = math.down((weighted - mean_dim(weighted, inner, true) - normal * along) * scale);
  }
  if (mask[1].boolean()) weight = summed(g * normal, "weight");
  if (mask[2].boolean()) bias = summed(g, "bias");
  return in.tuple({own, weight, bias});
}

Args layer_norm_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& type = in.type("input");
  if (is_zero(numel(type))) in.unsupported("an empty input");
  const Opmath math(type.dtype);
  const size_t lead = leading_rank(in);
  const auto up = [&](const Arg& a) { return a.is_none() ? a : math.up(a); };
  Dim count = 1;
  for (size_t d = lead; d < type.ndim(); ++d) count = count * type.shape[d];
  SecondGradient g{up(in["input"]),   up(in["grad_out"]), up(in["mean"]),
                   up(in["rstd"]),    up(in["weight"]),   up(item(grad, 0)),
                   up(item(grad, 1)), up(item(grad, 2)),  dims_from(in, lead, type.ndim()),
                   Arg(count)};
  Arg of_weight;
  if (wants_grad(in, "weight")) {
    of_weight = g.of_weight();
    if (!of_weight.is_none() && lead) of_weight = sum_dim(of_weight, dims_from(in, 0, lead));
    of_weight = fitted_to(of_weight, in.type("weight"));
  }
  return grads_of(in,
                  {{"grad_out", wants_grad(in, "grad_out") ? fitted_to(g.of_grad(), type) : Arg()},
                   {"input", wants_grad(in, "input") ? fitted_to(g.of_x(), type) : Arg()},
                   {"weight", of_weight}});
}

// --- group_norm ---------------------------------------------------------------------------------

Arg native_group_norm_meta(Call& in) {
  const TensorType& x = in.type("input");
  meta::require(in, x.dtype, meta::kFloats);
  require_cpu(in);
  if (x.ndim() < 2 || numel(x).value() == 0) in.unsupported("an empty input");
  const bool channels_last = meta::suggests_channels_last(x);
  TensorType out = x;
  out.strides = channels_last ? meta::channels_last_strides(x.shape) : contiguous_strides(x.shape);
  if (!(out.strides == x.strides)) in.unsupported("an input that is not contiguous");
  const Dim stat[] = {Dim(in.integer("N")), Dim(in.integer("group"))};
  const DType dtype = stat_dtype(in, {"weight", "bias"});
  return in.tuple(
      {in.make(std::move(out)), meta::fresh(in, x, stat, dtype), meta::fresh(in, x, stat, dtype)});
}

Arg native_group_norm_decompose(Call& in) {
  const TensorType& type = in.type("input");
  if (!is_contiguous(type)) in.unsupported("the decomposition in another layout");
  const Opmath math(type.dtype);
  const Dim parts[] = {Dim(in.integer("N")), Dim(in.integer("group")), Dim(-1)};
  const Dim stats[] = {parts[0], parts[1]};
  const Arg x = record(reshape, {math.up(in["input"]), in.dims_arg(parts)});
  const Arg last = dims_from(in, 2, 3);
  const Arg average = mean_dim(x, last, true), centered = x - average;
  const Arg scale = rsqrt(mean_dim(centered * centered, last, true) + in["eps"]);
  Arg y = record(reshape, {centered * scale, in.dims_arg(type.shape)});
  Args channels(type.ndim(), Arg(1));
  channels[1] = Arg(-1);
  const auto per_channel = [&](std::string_view param) {
    return record(view, {math.up(in[param]), in.list(channels)});
  };
  if (in.has("weight")) y = y * per_channel("weight");
  if (in.has("bias")) y = y + per_channel("bias");
  const auto stat = [&](const Arg& a) {
    return record(view, {converted(a, stat_dtype(in, {"weight", "bias"})), in.dims_arg(stats)});
  };
  return in.tuple({math.down(y), stat(average), stat(scale)});
}

Arg group_norm_backward_meta(Call& in) {
  const TensorType& x = in.type("input");
  require_cpu(in);
  const Dim channels[] = {Dim(in.integer("C"))};
  TensorType own = x;
  own.strides = meta::preserved_strides(x);
  const DType dtype = stat_dtype(in, {"weight"});
  return masked_results(in, {in.make(std::move(own)), param_grad(in, "weight", channels, dtype),
                             param_grad(in, "weight", channels, dtype)});
}

// Contiguous in the memory format that the input suggests.
Arg in_format_of(const Arg& a, const TensorType& like) {
  if (!meta::suggests_channels_last(like)) return contiguous(a);
  const std::string_view name = like.ndim() == 4 ? "channels_last" : "channels_last_3d";
  return record(contiguous, {a, Arg::named(Arg::Kind::kMemoryFormat, name)});
}

// --- batch_norm ---------------------------------------------------------------------------------

// Written statistics are the business of batch_norm_functional.
Arg native_batch_norm_meta(Call& in) {
  if (!in.flag("training")) in.unsupported("evaluation mode, which has no statistics");
  if (in.has("running_mean") || in.has("running_var")) in.unsupported("running statistics");
  require_cpu(in);
  const Args args{in["input"], Arg(),     Arg(),          in["weight"],
                  in["bias"],  Arg(true), in["momentum"], in["eps"]};
  const Arg out = in.builder().infer(batch_norm, args);
  const TensorType& x = in.type("input");
  const DType dtype = stat_dtype(in, {"weight", "bias"});
  return in.tuple(
      {out, vector_like(in, x, x.shape[1], dtype), vector_like(in, x, x.shape[1], dtype)});
}

Arg batch_norm_backward_meta(Call& in) {
  const TensorType& x = in.type("input");
  require_cpu(in);
  if (x.ndim() < 2) in.unsupported("fewer than 2 dimensions");
  TensorType own = x;
  own.strides = meta::suggests_channels_last(x) ? meta::channels_last_strides(x.shape)
                                                : contiguous_strides(x.shape);
  const Dim channels[] = {x.shape[1]};
  const DType dtype = stat_dtype(in, {"weight"});
  return masked_results(in, {in.make(std::move(own)), param_grad(in, "weight", channels, dtype),
                             param_grad(in, "weight", channels, dtype)});
}

Args batch_norm_backward_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& type = in.type("input");
  const Opmath math(type.dtype);
  const bool train = in.flag("train");
  Dims channels(type.ndim(), Dim(1));
  channels[1] = type.shape[1];
  const auto along = [&](const Arg& a) {
    return a.is_none() ? a : record(view, {math.up(a), in.dims_arg(channels)});
  };
  Args dims;
  Dim count = 1;
  for (size_t d = 0; d < type.ndim(); ++d) {
    if (d == 1) continue;
    dims.push_back(Arg(static_cast<int64_t>(d)));
    count = count * type.shape[d];
  }
  const Arg to_own = item(grad, 0).is_none() ? Arg() : math.up(item(grad, 0));
  const Arg rstd = train ? along(in["save_invstd"]) : rsqrt(along(in["running_var"]) + in["eps"]);
  SecondGradient g{math.up(in["input"]),
                   math.up(in["grad_out"]),
                   along(in[train ? "save_mean" : "running_mean"]),
                   rstd,
                   along(in["weight"]),
                   to_own,
                   along(item(grad, 1)),
                   along(item(grad, 2)),
                   in.list(dims),
                   Arg(count),
                   train};
  Arg of_weight;
  if (wants_grad(in, "weight") && !to_own.is_none())
    of_weight = fitted_to(sum_dim(g.of_weight(), g.dims), in.type("weight"));
  return grads_of(in,
                  {{"grad_out", wants_grad(in, "grad_out") ? fitted_to(g.of_grad(), type) : Arg()},
                   {"input", wants_grad(in, "input") ? fitted_to(g.of_x(), type) : Arg()},
                   {"weight", of_weight}});
}

Args batch_norm_grads(Call& in, const Arg& grad, const Arg& mean, const Arg& invstd, bool train) {
  const Arg none;
  const Arg all = record(native_batch_norm_backward,
                         {grad, in["input"], in["weight"], train ? none : in["running_mean"],
                          train ? none : in["running_var"], mean, invstd, Arg(train), in["eps"],
                          output_mask(in, {"input", "weight", "bias"})});
  return grads_of(in, {{"input", item(all, 0)}, {"weight", item(all, 1)}, {"bias", item(all, 2)}});
}

}  // namespace

Args batch_norm_vjp(Call& in, const Arg&, const Arg& grad) {
  if (in.flag("training")) in.unsupported("training, whose gradient reads the statistics");
  require_cpu(in);
  return batch_norm_grads(in, grad, Arg(), Arg(), false);
}

Arg batch_norm_with_stats(Call& in) {
  if (!in.flag("training")) in.unsupported("evaluation mode");
  return item(record(native_batch_norm, {in["input"], in["weight"], in["bias"], Arg(), Arg(),
                                         Arg(true), in["momentum"], in["eps"]}),
              0);
}

Args batch_norm_functional_vjp(Call& in, const Arg& out, const Arg& grad) {
  require_cpu(in);
  if (item(grad, 0).is_none()) return Args(in.size(), Arg());
  return batch_norm_grads(in, item(grad, 0), item(out, 1), item(out, 2), true);
}

Arg group_norm_with_stats(Call& in) {
  const TensorType& x = in.type("input");
  Dim spatial = 1;
  for (size_t d = 2; d < x.ndim(); ++d) spatial = spatial * x.shape[d];
  const Arg input = in_format_of(in["input"], x);
  return item(
      record(native_group_norm, {input, in["weight"], in["bias"], Arg(x.shape[0]), Arg(x.shape[1]),
                                 Arg(spatial), in["num_groups"], in["eps"]}),
      0);
}

constinit const Symbol native_layer_norm{
    .schema =
        "native_layer_norm(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, "
        "float eps) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.native_layer_norm",
    .tags = kPure | kReduction | kFirstDifferentiable,
    .meta = native_layer_norm_meta,
    .decompose = native_layer_norm_decompose,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      if (item(grad, 0).is_none()) return Args(in.size(), Arg());
      const Arg all =
          record(native_layer_norm_backward,
                 {item(grad, 0), in["input"], in["normalized_shape"], item(out, 1), item(out, 2),
                  in["weight"], in["bias"], output_mask(in, {"input", "weight", "bias"})});
      return grads_of(in,
                      {{"input", item(all, 0)}, {"weight", item(all, 1)}, {"bias", item(all, 2)}});
    },
};
constinit const Symbol native_layer_norm_backward{
    .schema =
        "native_layer_norm_backward(Tensor grad_out, Tensor input, int[] normalized_shape, "
        "Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias, bool[] output_mask) -> "
        "(Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten.native_layer_norm_backward",
    .tags = kPure | kReduction,
    .meta = layer_norm_backward_meta,
    .decompose = layer_norm_backward_decompose,
    .vjp = layer_norm_backward_vjp,
};
constinit const Symbol native_group_norm{
    .schema =
        "native_group_norm(Tensor input, Tensor? weight, Tensor? bias, int N, int C, int HxW, "
        "int group, float eps) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.native_group_norm",
    .tags = kPure | kReduction,
    .meta = native_group_norm_meta,
    .decompose = native_group_norm_decompose,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      // Eager too has no gradient then.
      if (item(grad, 0).is_none()) return Args(in.size(), Arg());
      if (!item(grad, 1).is_none() || !item(grad, 2).is_none()) {
        in.unsupported("gradients of the statistics");
      }
      const Arg g = in_format_of(item(grad, 0), in.type("input"));
      const Arg all =
          record(native_group_norm_backward,
                 {g, in["input"], item(out, 1), item(out, 2), in["weight"], in["N"], in["C"],
                  in["HxW"], in["group"], output_mask(in, {"input", "weight", "bias"})});
      return grads_of(in,
                      {{"input", item(all, 0)}, {"weight", item(all, 1)}, {"bias", item(all, 2)}});
    },
};
constinit const Symbol native_group_norm_backward{
    .schema =
        "native_group_norm_backward(Tensor grad_out, Tensor input, Tensor mean, Tensor rstd, "
        "Tensor? weight, int N, int C, int HxW, int group, bool[] output_mask) -> "
        "(Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten.native_group_norm_backward",
    .tags = kPure | kReduction,
    .meta = group_norm_backward_meta,
};
constinit const Symbol native_batch_norm{
    .schema =
        "native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
        "Tensor? running_var, bool training, float momentum, float eps) -> "
        "(Tensor, Tensor, Tensor)",
    .torch = "torch.native_batch_norm",
    .tags = kPure | kReduction | kFirstDifferentiable,
    .meta = native_batch_norm_meta,
    .vjp = batch_norm_functional_vjp,
};
constinit const Symbol native_batch_norm_backward{
    .schema =
        "native_batch_norm_backward(Tensor grad_out, Tensor input, Tensor? weight, "
        "Tensor? running_mean, Tensor? running_var, Tensor? save_mean, Tensor? save_invstd, "
        "bool train, float eps, bool[] output_mask) -> (Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten.native_batch_norm_backward",
    .tags = kPure | kReduction,
    .meta = batch_norm_backward_meta,
    .vjp = batch_norm_backward_vjp,
};

}  // namespace fulmen::ops
