#include "ops/norm.h"

#include <limits>

#include "ops/arith.h"
#include "ops/check.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/meta.h"
#include "ops/power.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

template <class... Parts>
[[noreturn]] void refuse(const Call& in, const Parts&... parts) {
  in.fail(ErrorKind::kRuntime, "norm-shape", parts...);
}

// --- layer_norm, rms_norm -----------------------------------------------------------------------

// The trailing sizes of the input must be normalized_shape, and weight and bias have that shape.
void check_trailing(const Call& in, std::initializer_list<std::string_view> params) {
  const TensorType& x = in.type("input");
  const Dims shape = in.dims("normalized_shape");
  if (shape.empty()) refuse(in, "normalized_shape must have at least one element; got ()");
  bool fits = x.ndim() >= shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = check::equal(in, x.shape[x.ndim() - shape.size() + i], shape[i]);
  }
  if (!fits) {
    refuse(in, "normalized_shape ", meta::shape_text(shape),
           " does not match the last sizes of the input's shape ", meta::shape_text(x.shape));
  }
  for (const std::string_view param : params) {
    const TensorProxy* t = in.opt_tensor(param);
    if (t && !check::equal(in, t->type.shape, shape)) {
      refuse(in, param, " must have the shape of normalized_shape ", meta::shape_text(shape),
             "; got ", meta::shape_text(t->type.shape));
    }
  }
}

// Parameters have the input's dtype, or all are float32 for a float16 or bfloat16 input.
void check_mixed(const Call& in, std::initializer_list<std::string_view> params) {
  const DType own = in.type("input").dtype;
  std::optional<DType> first;
  for (const std::string_view param : params) {
    const TensorProxy* t = in.opt_tensor(param);
    if (!t) continue;
    if (!first) first = t->type.dtype;
    const bool low = own == DType::kFloat16 || own == DType::kBFloat16;
    const bool fits = t->type.dtype == own || (low && t->type.dtype == DType::kFloat32);
    if (!fits || t->type.dtype != *first) {
      in.fail(ErrorKind::kRuntime, "dtype-mismatch", "mixed dtype: ", param, " is ",
              name(t->type.dtype), " for an input of ", name(own));
    }
  }
}

Arg layer_norm_meta(Call& in) {
  check_trailing(in, {"weight", "bias"});
  const TensorProxy& x = in.tensor("input");
  meta::require(in, x.type.dtype, meta::kFloats);
  if (x.type.device.type == DeviceType::kCPU) check_mixed(in, {"weight", "bias"});
  check::device(in, {&x, in.opt_tensor("weight"), in.opt_tensor("bias")});
  return meta::fresh(in, x.type, x.type.shape, x.type.dtype);
}

Arg trailing_dims(Call& in) {
  Args dims;
  const int64_t n = static_cast<int64_t>(in.dims("normalized_shape").size());
  for (int64_t d = -n; d < 0; ++d) dims.push_back(Arg(d));
  return in.list(dims);
}

// (x - mean) / sqrt(var + eps) over `dims`.
Arg standardized(const Arg& x, const Arg& dims, double eps) {
  const Arg centered = x - mean_dim(x, dims, true);
  const Arg variance = mean_dim(centered * centered, dims, true);
  return centered * rsqrt(variance + Arg(eps));
}

Arg layer_norm_decompose(Call& in) {
  if (is_zero(numel(in.type("input")))) in.unsupported("an empty input");
  const Opmath math(in.type("input").dtype);
  Arg y = standardized(math.up(in["input"]), trailing_dims(in), in.real("eps"));
  if (in.has("weight")) y = y * math.up(in["weight"]);
  if (in.has("bias")) y = y + math.up(in["bias"]);
  return math.down(y);
}

// Contiguous in the memory format that the input suggests.
Arg rms_norm_meta(Call& in) {
  check_trailing(in, {"weight"});
  const TensorType& x = in.type("input");
  meta::require(in, x.dtype, meta::kFloats);
  if (const TensorProxy* w = in.opt_tensor("weight")) {
    if (!is_floating(w->type.dtype)) in.unsupported("a weight of dtype ", name(w->type.dtype));
  }
  if (is_zero(numel(x))) in.unsupported("an empty input");
  TensorType out = x;
  out.device = check::device(in, {&in.tensor("input"), in.opt_tensor("weight")});
  const bool last = meta::suggests_channels_last(x);
  TensorType scale = x;  // a number for each row
  const size_t rows = x.ndim() - in.dims("normalized_shape").size();
  for (size_t i = rows; i < x.ndim(); ++i) scale.shape[i] = 1;
  scale.strides = contiguous_strides(scale.shape);
  const TensorType* operands[] = {&x, &scale};
  out.strides = meta::pointwise_strides(operands, x.shape);
  const bool is_so = last ? meta::is_channels_last_contiguous(out) : is_contiguous(out);
  if (!is_so)
    out.strides = last ? meta::channels_last_strides(x.shape) : contiguous_strides(x.shape);
  return in.make(std::move(out));
}

Arg rms_norm_decompose(Call& in) {
  const DType own = in.type("input").dtype;
  const Opmath math(in.type("input").dtype);
  const Arg x = math.up(in["input"]);
  const double eps = in.has("eps")            ? in.real("eps")
                     : own == DType::kFloat64 ? std::numeric_limits<double>::epsilon()
                                              : std::numeric_limits<float>::epsilon();
  Arg y = x * rsqrt(mean_dim(square(x), trailing_dims(in), true) + Arg(eps));
  if (in.has("weight")) y = y * in["weight"];
  return converted(y, own);
}

// --- group_norm, instance_norm ------------------------------------------------------------------

void check_vector(const Call& in, std::string_view param, Dim size) {
  const TensorProxy* t = in.opt_tensor(param);
  if (!t || (t->type.ndim() == 1 && check::equal(in, t->type.shape[0], size))) return;
  refuse(in, param, " must have shape (", size, ",); got ", meta::shape_text(t->type.shape));
}

Arg group_norm_meta(Call& in) {
  const TensorProxy& input = in.tensor("input");
  const TensorType& x = input.type;
  if (x.ndim() < 2) {
    refuse(in, "expected at least 2 dimensions; got shape ", meta::shape_text(x.shape));
  }
  const int64_t groups = in.integer("num_groups");
  if (groups <= 0) in.unsupported("num_groups that is not positive");
  if (x.shape[1].value() % groups != 0) {
    refuse(in, "the number of channels must be divisible by num_groups; got shape ",
           meta::shape_text(x.shape), " and num_groups=", groups);
  }
  check_vector(in, "weight", x.shape[1]);
  check_vector(in, "bias", x.shape[1]);
  meta::require(in, x.dtype, meta::kFloats);
  if (x.device.type == DeviceType::kCPU) check_mixed(in, {"weight", "bias"});
  TensorType out = x;
  out.device = check::device(in, {&input, in.opt_tensor("weight"), in.opt_tensor("bias")});
  // Only ATen's CPU kernel keeps channels_last.
  const bool channels_last = meta::suggests_channels_last(x);
  if (channels_last && x.device.type != DeviceType::kCPU) in.unsupported("a channels_last input");
  out.strides = channels_last ? meta::channels_last_strides(x.shape) : contiguous_strides(x.shape);
  return in.make(std::move(out));
}

// A vector of `channels` values, shaped to meet (N, C, …) of the given rank.
Arg per_channel(Call& in, const Arg& vector, size_t ndim) {
  Args shape(ndim, Arg(1));
  shape[1] = Arg(-1);
  return view(vector, in.list(shape));
}

Arg group_norm_decompose(Call& in) {
  const TensorType& x = in.type("input");
  const int64_t groups = in.integer("num_groups");
  for (const Dim d : x.shape) {
    if (is_zero(d)) in.unsupported("an empty input");
  }
  const Opmath math(in.type("input").dtype);
  const Dim parts[] = {x.shape[0], Dim(groups), Dim(-1)};
  const Arg grouped = reshape(math.up(in["input"]), in.dims_arg(parts));
  const Arg last[] = {Arg(-1)};
  Arg y = standardized(grouped, in.list(last), in.real("eps"));
  y = reshape(y, in.dims_arg(x.shape));
  if (in.has("weight")) y = y * per_channel(in, math.up(in["weight"]), x.ndim());
  if (in.has("bias")) y = y + per_channel(in, math.up(in["bias"]), x.ndim());
  return math.down(y);
}

Arg instance_norm_meta(Call& in) {
  if (in.has("running_mean") || in.has("running_var")) in.unsupported("running statistics");
  if (!in.flag("use_input_stats")) in.unsupported("use_input_stats=False without statistics");
  const TensorProxy& input = in.tensor("input");
  const TensorType& x = input.type;
  if (x.ndim() < 3) in.unsupported("fewer than 3 dimensions");
  meta::require(in, x.dtype, meta::kFloats);
  Dim spatial = 1;
  for (size_t i = 0; i < x.ndim(); ++i) {
    if (x.shape[i].value() == 0) in.unsupported("an empty input");
    if (i >= 2) spatial = spatial * x.shape[i];
  }
  if (is_one(spatial)) {
    in.fail(ErrorKind::kValue, "norm-one-value",
            "Expected more than 1 spatial element when training, got input size ",
            meta::shape_text(x.shape));
  }
  check_vector(in, "weight", x.shape[1]);
  check_vector(in, "bias", x.shape[1]);
  check_mixed(in, {"weight", "bias"});
  check::device(in, {&input, in.opt_tensor("weight"), in.opt_tensor("bias")});
  return meta::fresh(in, x, x.shape, x.dtype);
}

// --- batch_norm ---------------------------------------------------------------------------------

TensorType batch_norm_type(Call& in) {
  const TensorProxy& input = in.tensor("input");
  const TensorType& x = input.type;
  if (x.ndim() < 2) in.unsupported("fewer than 2 dimensions");
  meta::require(in, x.dtype, meta::kFloats);
  const Dim channels = x.shape[1];
  for (const std::string_view param : {"running_mean", "running_var", "weight", "bias"}) {
    check_vector(in, param, channels);
    if (param.starts_with("running")) check::no_grad_needed(in, param);
  }
  for (const Dim d : x.shape) {
    if (is_zero(d)) in.unsupported("an empty input");
  }
  TensorType out = x;
  out.device = check::device(in, {&input, in.opt_tensor("weight"), in.opt_tensor("bias"),
                                  in.opt_tensor("running_mean"), in.opt_tensor("running_var")});
  if (out.device.type == DeviceType::kCPU) {
    check_mixed(in, {"weight", "bias", "running_mean", "running_var"});
  }
  out.strides = contiguous_strides(x.shape);
  if (!is_contiguous(x) && meta::is_channels_last_contiguous(x)) {
    if (out.device.type != DeviceType::kCPU) in.unsupported("a channels_last input");
    out.strides = meta::channels_last_strides(x.shape);
  }
  return out;
}

void check_batch_size(const Call& in) {
  const TensorType& x = in.type("input");
  Dim values = x.shape[0];
  for (size_t i = 2; i < x.ndim(); ++i) values = values * x.shape[i];
  if (!is_one(values)) return;
  in.fail(ErrorKind::kValue, "norm-one-value",
          "Expected more than 1 value per channel when training, got input size ",
          meta::shape_text(x.shape));
}

bool has_stats(const Call& in) { return in.has("running_mean") || in.has("running_var"); }

Arg batch_norm_meta(Call& in) {
  if (in.flag("training")) {
    if (has_stats(in)) in.unsupported("training updates the running statistics");
    if (in.type("input").ndim() >= 2) check_batch_size(in);
  } else if (!in.has("running_mean") || !in.has("running_var")) {
    in.fail(ErrorKind::kRuntime, "norm-stats",
            "running_mean and running_var must be defined in evaluation mode");
  }
  return in.make(batch_norm_type(in));
}

Arg batch_norm_training_meta(Call& in) {
  if (!in.flag("training")) in.unsupported("evaluation mode");
  if (!in.has("running_mean") || !in.has("running_var")) in.unsupported("one running statistic");
  check_batch_size(in);
  return in.make(batch_norm_type(in));
}

// (output, save_mean, save_invstd, running_mean, running_var)
Arg batch_norm_functional_meta(Call& in) {
  if (!in.flag("training")) in.unsupported("evaluation mode");
  const TensorType out = batch_norm_type(in);
  const TensorType& mean = in.type("running_mean");
  const Dims vector{out.shape[1]};
  const auto stat = [&](DType dtype) { return meta::fresh(in, mean, vector, dtype); };
  DType saved = out.dtype;
  for (const std::string_view param : {"weight", "bias", "running_mean", "running_var"}) {
    if (const TensorProxy* t = in.opt_tensor(param)) saved = t->type.dtype;
  }
  return in.tuple({in.make(out), stat(saved), stat(saved), stat(mean.dtype),
                   stat(in.type("running_var").dtype)});
}

Arg batch_norm_decompose(Call& in) {
  const TensorType& type = in.type("input");
  const Opmath math(in.type("input").dtype);
  const Arg x = math.up(in["input"]);
  Arg mean, variance;
  if (in.flag("training")) {
    Args dims;
    for (size_t i = 0; i < type.ndim(); ++i) {
      if (i != 1) dims.push_back(Arg(static_cast<int64_t>(i)));
    }
    mean = mean_dim(x, in.list(dims), true);
    const Arg centered = x - mean;
    variance = mean_dim(centered * centered, in.list(dims), true);
  } else {
    mean = per_channel(in, math.up(in["running_mean"]), type.ndim());
    variance = per_channel(in, math.up(in["running_var"]), type.ndim());
  }
  Arg scale = rsqrt(variance + Arg(in.real("eps")));
  if (in.has("weight")) scale = scale * per_channel(in, math.up(in["weight"]), type.ndim());
  Arg shift = -(mean * scale);
  if (in.has("bias")) shift = per_channel(in, math.up(in["bias"]), type.ndim()) + shift;
  return math.down(x * scale + shift);
}

// As at::instance_norm: each channel of each sample is a channel of one batch.
Arg instance_norm_steps(Call& in) {
  const TensorType& x = in.type("input");
  Dims shape = x.shape;
  shape[1] = shape[0] * shape[1];
  shape[0] = 1;
  const auto repeated = [&](std::string_view param) {
    const Dim times[] = {x.shape[0]};
    return in.has(param) ? repeat(in[param], in.dims_arg(times)) : Arg();
  };
  const Arg input = record(view, {contiguous(in["input"]), in.dims_arg(shape)});
  const Arg out = record(batch_norm, {input, Arg(), Arg(), repeated("weight"), repeated("bias"),
                                      Arg(true), in["momentum"], in["eps"]});
  return record(view, {out, in.dims_arg(x.shape)});
}

}  // namespace

constinit const Symbol layer_norm{
    .schema =
        "layer_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, "
        "Tensor? bias=None, float eps=1e-05) -> Tensor",
    .torch = "torch.nn.functional.layer_norm torch.layer_norm",
    .tags = kPure | kReduction,
    .meta = layer_norm_meta,
    .decompose = layer_norm_decompose,
    .augmented = [](Call& in) -> Arg {
      return item(in.builder().call(native_layer_norm, in.args()), 0);
    },
};
constinit const Symbol rms_norm{
    .schema =
        "rms_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, "
        "float? eps=None) -> Tensor",
    .torch = "torch.nn.functional.rms_norm torch.rms_norm",
    .tags = kPure | kReduction,
    .meta = rms_norm_meta,
    .decompose = rms_norm_decompose,
    .augmented = rms_norm_decompose,
};
constinit const Symbol group_norm{
    .schema =
        "group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, "
        "float eps=1e-05) -> Tensor",
    .torch = "torch.nn.functional.group_norm torch.group_norm",
    .tags = kPure | kReduction,
    .meta = group_norm_meta,
    .decompose = group_norm_decompose,
    .augmented = group_norm_with_stats,
};
constinit const Symbol batch_norm{
    .schema =
        "batch_norm(Tensor input, Tensor? running_mean, Tensor? running_var, "
        "Tensor? weight=None, Tensor? bias=None, bool training=False, float momentum=0.1, "
        "float eps=1e-05) -> Tensor",
    .torch = "torch.nn.functional.batch_norm",
    .tags = kPure | kReduction,
    .meta = batch_norm_meta,
    .decompose = batch_norm_decompose,
    .vjp = batch_norm_vjp,
    .augmented = batch_norm_with_stats,
    .aten =
        "batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, "
        "True)",
};
// Note [Running statistics]
// In training batch_norm writes running_mean and running_var, which are parameters and not its
// result: no proxy stands for them after the write. Functionalization replaces it by
// batch_norm_functional, whose last two results are what is written back.
constinit const Symbol batch_norm_training{
    .schema =
        "batch_norm.training(Tensor input, Tensor!? running_mean, Tensor!? running_var, "
        "Tensor? weight=None, Tensor? bias=None, bool training=False, float momentum=0.1, "
        "float eps=1e-05) -> Tensor",
    .torch = "torch.nn.functional.batch_norm",
    .tags = kInplace | kReduction,
    .meta = batch_norm_training_meta,
    .aten =
        "batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, "
        "True)",
};
constinit const Symbol batch_norm_functional{
    .schema =
        "_native_batch_norm_legit_functional(Tensor input, Tensor? weight, Tensor? bias, "
        "Tensor running_mean, Tensor running_var, bool training, float momentum, float eps)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    .torch = "torch.ops.aten._native_batch_norm_legit_functional",
    .tags = kPure | kReduction | kFirstDifferentiable,
    .meta = batch_norm_functional_meta,
    .vjp = batch_norm_functional_vjp,
};
constinit const Symbol instance_norm{
    .schema =
        "instance_norm(Tensor input, Tensor? running_mean=None, Tensor? running_var=None, "
        "Tensor? weight=None, Tensor? bias=None, bool use_input_stats=True, "
        "float momentum=0.1, float eps=1e-05) -> Tensor",
    .torch = "torch.nn.functional.instance_norm",
    .tags = kPure | kReduction,
    .meta = instance_norm_meta,
    .augmented = instance_norm_steps,
    .aten =
        "instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, "
        "momentum, eps, True)",
};
std::span<const Symbol* const> norm_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_NORM_OPS(X) FULMEN_NORM_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
