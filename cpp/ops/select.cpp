#include "ops/select.h"

#include <cmath>

#include "ops/arith.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/lane.h"

namespace fulmen::ops {
namespace {

// The condition is not converted, the values are.
Arg where_meta(Call& in) {
  const TensorType& condition = in.type("condition");
  if (condition.dtype == DType::kUInt8) in.unsupported("a deprecated uint8 condition");
  if (condition.dtype != DType::kBool) {
    in.fail(ErrorKind::kRuntime, "where-condition",
            "where expected condition to be a boolean tensor, but got a tensor with dtype ",
            name(condition.dtype));
  }
  const Arg values[] = {in["input"], in["other"]};
  const DType dtype = meta::result_type(in, values);
  meta::require(in, dtype, meta::kAnyDType);
  return meta::iterate(in, in.args(), dtype, dtype, 1);
}

// With numbers as bounds, runs on the converted input alone.
Arg clamp_numbers(Call& in, std::span<const Arg> promoted) {
  const DType dtype = meta::result_type(in, promoted);
  meta::require(in, dtype, meta::kReals);
  return meta::iterate(in, {&in[0], 1}, dtype, dtype);
}

Arg clamp_meta(Call& in) {
  if (!in.has("min") && !in.has("max")) {
    in.fail(ErrorKind::kRuntime, "clamp-bounds",
            "torch.clamp: At least one of 'min' or 'max' must not be None");
  }
  Args promoted;
  for (const Arg& a : in.args()) {
    if (!a.is_none()) promoted.push_back(a);
  }
  return clamp_numbers(in, promoted);
}

Arg clamp_one_meta(Call& in) {
  if (in[1].is_tensor()) return meta::elementwise(in, meta::kReals, meta::Result::kCommon);
  return clamp_numbers(in, in.args());
}

template <uint8_t accept>
Arg addc_meta(Call& in) {
  const Args operands{in[0], in[1], in[2]};
  if (is_integral(meta::result_type(in, operands)) &&
      !is_integral(meta::scalar_dtype(in, in["value"]))) {
    in.unsupported("integers scaled by a floating point number");
  }
  return meta::elementwise(in, accept, meta::Result::kCommon);
}

}  // namespace

constinit const Symbol where{
    .schema = "where(Tensor condition, Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.where",
    .tags = kElementwise,
    .meta = where_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {Arg(), where(in[0], grad, 0.0), where(in[0], 0.0, grad)});
    },
    .lane = Lane::kWhere,
};
constinit const Symbol where_method{
    .schema = "where.method(Tensor input, Tensor condition, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.where",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return where(in["condition"], in["input"], in["other"]); },
    .aten = "where(condition, input, other)",
};
constinit const Symbol clamp{
    .schema = "clamp(Tensor input, Scalar? min=None, Scalar? max=None) -> Tensor",
    .torch =
        "torch.clamp torch.Tensor.clamp torch.clip torch.Tensor.clip torch.clamp_ "
        "torch.Tensor.clamp_ torch.clip_ torch.Tensor.clip_",
    .tags = kElementwise,
    .meta = clamp_meta,
    .decompose = [](Call& in) -> Arg {
      Arg x = in["input"];
      if (in.has("min")) x = clamp_min(x, in["min"]);
      if (in.has("max")) x = clamp_max(x, in["max"]);
      return x;
    },
};
constinit const Symbol clamp_tensor{
    .schema = "clamp.Tensor(Tensor input, Tensor? min=None, Tensor? max=None) -> Tensor",
    .torch =
        "torch.clamp torch.Tensor.clamp torch.clip torch.Tensor.clip torch.clamp_ "
        "torch.Tensor.clamp_ torch.clip_ torch.Tensor.clip_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Arg x = in["input"];
      if (in.has("min")) x = clamp_min(x, in["min"]);
      if (in.has("max")) x = clamp_max(x, in["max"]);
      return x;
    },
};
constinit const Symbol clamp_min{
    .schema = "clamp_min(Tensor input, Tensor|Scalar min) -> Tensor",
    .torch = "torch.clamp_min torch.Tensor.clamp_min torch.clamp_min_ torch.Tensor.clamp_min_",
    .tags = kElementwise,
    .meta = clamp_one_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {where(ge(in[0], in[1]), grad, 0.0),
                        in[1].is_tensor() ? where(ge(in[0], in[1]), 0.0, grad) : Arg()});
    },
    .lane = Lane::kMaximum,
};
constinit const Symbol clamp_max{
    .schema = "clamp_max(Tensor input, Tensor|Scalar max) -> Tensor",
    .torch = "torch.clamp_max torch.Tensor.clamp_max torch.clamp_max_ torch.Tensor.clamp_max_",
    .tags = kElementwise,
    .meta = clamp_one_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {where(le(in[0], in[1]), grad, 0.0),
                        in[1].is_tensor() ? where(le(in[0], in[1]), 0.0, grad) : Arg()});
    },
    .lane = Lane::kMinimum,
};
constinit const Symbol lerp_scalar{
    .schema = "lerp.Scalar(Tensor input, Tensor end, Scalar weight) -> Tensor",
    .torch = "torch.lerp torch.Tensor.lerp torch.Tensor.lerp_",
    .tags = kElementwise,
    .meta = meta::elementwise_unpromoted<meta::kInexact>,
    .decompose = [](Call& in) -> Arg {
      const Arg weight = in["weight"];
      if (weight.kind() == Arg::Kind::kProxy || weight.kind() == Arg::Kind::kComplex) {
        in.unsupported("the decomposition for this weight");
      }
      const double w = in.real("weight");
      Opmath math(in);
      const Arg a = math.up(in["input"]), b = math.up(in["end"]);
      return math.down(std::abs(w) < 0.5 ? a + (b - a) * w : (a - b) * (1.0 - w) + b);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      const double w = in.real("weight");
      return grads(in, {grad * (1.0 - w), grad * w});
    },
};
constinit const Symbol lerp_tensor{
    .schema = "lerp.Tensor(Tensor input, Tensor end, Tensor weight) -> Tensor",
    .torch = "torch.lerp torch.Tensor.lerp torch.Tensor.lerp_",
    .tags = kElementwise,
    .meta = meta::elementwise_unpromoted<meta::kInexact>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg a = math.up(in["input"]), b = math.up(in["end"]), w = math.up(in["weight"]);
      const Arg d = b - a;
      return math.down(where(lt(abs(w), 0.5), a + w * d, b - d * (1.0 - w)));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      return grads(in, {grad * (1.0 - in[2]), grad * in[2], grad * (in[1] - in[0])});
    },
};
constinit const Symbol addcmul{
    .schema = "addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    .torch = "torch.addcmul torch.Tensor.addcmul torch.Tensor.addcmul_",
    .tags = kElementwise,
    .meta = addc_meta<meta::kNoBool>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]), a = math.up(in["tensor1"]), b = math.up(in["tensor2"]);
      return math.down(x + scaled(a, in["value"]) * b);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      const Arg g = scaled(grad, in["value"]);
      return grads(in, {grad, g * in[2], g * in[1]});
    },
};
constinit const Symbol addcdiv{
    .schema = "addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    .torch = "torch.addcdiv torch.Tensor.addcdiv torch.Tensor.addcdiv_",
    .tags = kElementwise,
    .meta = addc_meta<meta::kInexact>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]), a = math.up(in["tensor1"]), b = math.up(in["tensor2"]);
      return math.down(x + scaled(a, in["value"]) / b);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      const Arg g = scaled(grad, in["value"]) / in[2];
      return grads(in, {grad, g, -(g * (in[1] / in[2]))});
    },
};

std::span<const Symbol* const> select_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SELECT_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
