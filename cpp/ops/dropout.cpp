#include <algorithm>
#include <cmath>

#include "ops/arith.h"
#include "ops/creation.h"
#include "ops/meta.h"
#include "ops/random.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

// How the noise that multiplies the input is shaped.
enum class Noise : uint8_t { kElement, kFeature, kAlpha };

Arg dropout_of(Call& in, std::string_view train, ErrorKind error, Noise kind) {
  const TensorType& t = in.type("input");
  const double p = in.real("p");
  if (!(p >= 0 && p <= 1)) {
    in.fail(error, "dropout-probability", "dropout probability has to be between 0 and 1, but got ",
            p);
  }
  if (in.symbol().info->schema.index("inplace") >= 0 && in.flag("inplace")) {
    in.unsupported("inplace=True");
  }
  if (p == 0 || !in.flag(train) || is_zero(numel(t))) return in["input"];
  if (!is_floating(t.dtype)) in.unsupported("dtype ", name(t.dtype));
  TensorType noise = t;
  noise.strides = meta::preserved_strides(t);
  TensorType out = t;
  if (kind == Noise::kAlpha && !meta::is_non_overlapping_and_dense(t)) {
    in.unsupported("a tensor that is not dense");
  }
  if (t.device.type == DeviceType::kCUDA) {
    if (kind != Noise::kElement) in.unsupported("device cuda");
    if (p < 1) {  // native_dropout: empty_like
      out.strides = noise.strides;
      return in.make(out);
    }
  }
  if (kind == Noise::kFeature) {
    if (t.ndim() < 2 && p < 1) {
      in.fail(ErrorKind::kRuntime, "feature-dropout",
              "Feature dropout requires at least 2 dimensions in the input");
    }
    for (size_t d = 2; d < t.ndim(); ++d) noise.shape[d] = 1;
    noise.strides = contiguous_strides(noise.shape);
  }
  // At p = 1 eager multiplies by a 0-d zero.
  const TensorType* const operands[] = {&t, &noise};
  out.strides = p == 1 ? meta::pointwise_strides({operands, 1}, t.shape, t.ndim() > 0)
                       : meta::pointwise_strides(operands, t.shape);
  return in.make(out);
}

// F.dropout1d and its kin wrap unbatched inputs in further calls.
Arg batched_feature_dropout(Call& in, size_t ndim) {
  if (in.type("input").ndim() != ndim) in.unsupported("an unbatched input");
  return dropout_of(in, "training", ErrorKind::kValue, Noise::kFeature);
}

// Ones and zeros in the layout of `t`: ATen draws them in the order of memory.
Arg bernoulli_like(Call& in, const Arg& x, double p) {
  const TensorType& t = x.tensor()->type;
  if (is_contiguous(t)) return record(bernoulli_p, {x, Arg(p), Arg()});
  if (!meta::is_non_overlapping_and_dense(t)) in.unsupported("a tensor that is not dense");
  SmallVec<size_t, 6> order;
  for (size_t d = 0; d < t.ndim(); ++d) order.push_back(d);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return t.strides[a].value() > t.strides[b].value(); });
  Args there, back(t.ndim(), Arg());
  for (size_t i = 0; i < order.size(); ++i) {
    there.push_back(Arg(static_cast<int64_t>(order[i])));
    back[order[i]] = Arg(static_cast<int64_t>(i));
  }
  const Arg drawn = record(bernoulli_p, {permute(x, in.list(there)), Arg(p), Arg()});
  return permute(drawn, in.list(back));
}

// As ATen without its fused kernels: the input times noise, which is what the gradient reads.
template <Noise kKind>
Arg dropout_steps(Call& in) {
  const TensorType& t = in.type("input");
  const double p = in.real("p");
  if (t.device.type != DeviceType::kCPU) in.unsupported("a device with kernels of its own");
  if (p == 1) return in["input"] * scalar_tensor_like(in.builder(), Arg(0.0), t);
  Arg like = detach(in["input"]);
  if (kKind == Noise::kFeature) {
    Dims shape = t.shape;
    for (size_t d = 2; d < shape.size(); ++d) shape[d] = 1;
    like = record(empty, {in.dims_arg(shape), Arg(t.dtype), Arg(), Arg(t.device), Arg(false),
                          Arg(false), Arg()});
  }
  Arg noise = bernoulli_like(in, like, 1 - p);
  if (kKind != Noise::kAlpha) return in["input"] * (noise / Arg(1 - p));
  constexpr double kAlpha = 1.7580993408473766;
  const double a = 1.0 / std::sqrt((kAlpha * kAlpha * p + 1) * (1 - p));
  const Arg shift = (noise + -1) * Arg(kAlpha * a) + Arg(kAlpha * a * p);
  return in["input"] * (noise * Arg(a)) + shift;
}

}  // namespace

constinit const Symbol dropout{
    .schema =
        "dropout(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> "
        "Tensor",
    .torch = "torch.nn.functional.dropout",
    .tags = kRandom,
    .meta = [](Call& in) { return dropout_of(in, "training", ErrorKind::kValue, Noise::kElement); },
    .augmented = dropout_steps<Noise::kElement>,
    .aten = "dropout(input, p, training)",
};
constinit const Symbol dropout_train{
    .schema = "dropout.train(Tensor input, float p, bool train) -> Tensor",
    .torch = "torch.dropout torch.dropout_",
    .tags = kRandom,
    .meta = [](Call& in) { return dropout_of(in, "train", ErrorKind::kRuntime, Noise::kElement); },
    .augmented = dropout_steps<Noise::kElement>,
};
constinit const Symbol dropout1d{
    .schema =
        "dropout1d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> "
        "Tensor",
    .torch = "torch.nn.functional.dropout1d",
    .tags = kRandom,
    .meta = [](Call& in) { return batched_feature_dropout(in, 3); },
    .augmented = dropout_steps<Noise::kFeature>,
    .aten = "feature_dropout(input, p, training)",
};
constinit const Symbol dropout2d{
    .schema =
        "dropout2d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> "
        "Tensor",
    .torch = "torch.nn.functional.dropout2d",
    .tags = kRandom,
    .meta = [](Call& in) { return batched_feature_dropout(in, 4); },
    .augmented = dropout_steps<Noise::kFeature>,
    .aten = "feature_dropout(input, p, training)",
};
constinit const Symbol dropout3d{
    .schema =
        "dropout3d(Tensor input, float p=0.5, bool training=True, bool inplace=False) -> "
        "Tensor",
    .torch = "torch.nn.functional.dropout3d",
    .tags = kRandom,
    .meta = [](Call& in) { return batched_feature_dropout(in, 5); },
    .augmented = dropout_steps<Noise::kFeature>,
    .aten = "feature_dropout(input, p, training)",
};
constinit const Symbol feature_dropout{
    .schema = "feature_dropout(Tensor input, float p, bool train) -> Tensor",
    .torch = "torch.feature_dropout",
    .tags = kRandom,
    .meta = [](Call& in) { return dropout_of(in, "train", ErrorKind::kRuntime, Noise::kFeature); },
    .augmented = dropout_steps<Noise::kFeature>,
};
constinit const Symbol alpha_dropout{
    .schema =
        "alpha_dropout(Tensor input, float p=0.5, bool training=False, bool inplace=False) "
        "-> Tensor",
    .torch = "torch.nn.functional.alpha_dropout",
    .tags = kRandom,
    .meta = [](Call& in) { return dropout_of(in, "training", ErrorKind::kValue, Noise::kAlpha); },
    .augmented = dropout_steps<Noise::kAlpha>,
    .aten = "alpha_dropout(input, p, training)",
};
constinit const Symbol alpha_dropout_train{
    .schema = "alpha_dropout.train(Tensor input, float p, bool train) -> Tensor",
    .torch = "torch.alpha_dropout torch.alpha_dropout_",
    .tags = kRandom,
    .meta = [](Call& in) { return dropout_of(in, "train", ErrorKind::kRuntime, Noise::kAlpha); },
    .augmented = dropout_steps<Noise::kAlpha>,
};

}  // namespace fulmen::ops
