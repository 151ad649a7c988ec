#include "ops/select.h"

#include <array>
#include <cmath>

#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
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

// Nothing flows through where a bound took over, nor to the bounds where it did not.
Args clamp_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg x = in["input"], low = in["min"], high = in["max"];
  Args out;
  out.resize(in.size());
  if (wants_grad(in, "input")) {
    Arg kept;
    if (!low.is_none()) kept = ge(x, low);
    if (!high.is_none()) kept = kept.is_none() ? le(x, high) : logical_and(kept, le(x, high));
    out[0] = where(kept, grad, 0.0);
  }
  const bool both = !low.is_none() && !high.is_none();
  if (wants_grad(in, "min")) {
    const Arg taken = lt(x, low);
    out[1] = where(both ? logical_and(taken, lt(low, high)) : taken, grad, 0.0);
  }
  if (wants_grad(in, "max")) {
    const Arg taken = gt(x, high);
    out[2] = where(both ? logical_or(taken, lt(high, low)) : taken, grad, 0.0);
  }
  return out;
}

// number / x, which the operator computes by the reciprocal.
Arg quotient(Call& in, const Arg& number, const Arg& x) {
  return div(scalar_tensor_like(in.builder(), number, x.tensor()->type), x);
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

// The operands of addcmul and addcdiv: float32 ones beside a float64 tensor are float64 first.
std::array<Arg, 3> promoted(Call& in, const Opmath& math) {
  const Args operands{in["input"], in["tensor1"], in["tensor2"]};
  const DType common = meta::result_type(in, operands);
  const auto up = [&](const Arg& a) { return math.up(converted(a, common)); };
  return {up(operands[0]), up(operands[1]), up(operands[2])};
}

}  // namespace

constinit const Symbol where{
    .schema = "where(Tensor condition, Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.where",
    .tags = kElementwise,
    .meta = where_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      Args out;
      out.resize(3);
      if (wants_grad(in, 1)) out[1] = real_if(in[1].tensor()->type, where(in[0], grad, 0.0));
      if (wants_grad(in, 2)) out[2] = real_if(in[2].tensor()->type, where(in[0], 0.0, grad));
      return out;
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
    .vjp = clamp_vjp,
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
    .vjp = clamp_vjp,
};
constinit const Symbol clamp_min{
    .schema = "clamp_min(Tensor input, Tensor|Scalar min) -> Tensor",
    .torch = "torch.clamp_min torch.Tensor.clamp_min torch.clamp_min_ torch.Tensor.clamp_min_",
    .tags = kElementwise,
    .meta = clamp_one_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return where(ge(in[0], in[1]), grad, 0.0); },
          [&] { return where(lt(in[0], in[1]), grad, 0.0); });
    },
    .lane = Lane::kMaximum,
};
constinit const Symbol clamp_max{
    .schema = "clamp_max(Tensor input, Tensor|Scalar max) -> Tensor",
    .torch = "torch.clamp_max torch.Tensor.clamp_max torch.clamp_max_ torch.Tensor.clamp_max_",
    .tags = kElementwise,
    .meta = clamp_one_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return where(le(in[0], in[1]), grad, 0.0); },
          [&] { return where(gt(in[0], in[1]), grad, 0.0); });
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
      const double w = in.real("weight");
      return operand_grads(in, [&] { return grad * (1.0 - w); }, [&] { return grad * w; });
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
      Args out = operand_grads(
          in, [&] { return grad * conjugate(1 - in[2]); }, [&] { return grad * conjugate(in[2]); });
      if (wants_grad(in, 2)) out[2] = grad * conjugate(in[1] - in[0]);
      return out;
    },
};
constinit const Symbol addcmul{
    .schema = "addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    .torch = "torch.addcmul torch.Tensor.addcmul torch.Tensor.addcmul_",
    .tags = kElementwise,
    .meta = addc_meta<meta::kNoBool>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const auto [x, a, b] = promoted(in, math);
      return math.down(x + scaled(a, in["value"]) * b);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      Args out = operand_grads(
          in, [&] { return grad; }, [&] { return grad * conjugate(in[2] * in["value"]); });
      if (wants_grad(in, 2))
        out[2] = real_if(in[2].tensor()->type, grad * conjugate(in[1] * in["value"]));
      return out;
    },
};
constinit const Symbol addcdiv{
    .schema = "addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor",
    .torch = "torch.addcdiv torch.Tensor.addcdiv torch.Tensor.addcdiv_",
    .tags = kElementwise,
    .meta = addc_meta<meta::kInexact>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const auto [x, a, b] = promoted(in, math);
      return math.down(x + scaled(a, in["value"]) / b);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      Args out = operand_grads(
          in, [&] { return grad; },
          [&] { return grad * conjugate(quotient(in, in["value"], in[2])); });
      if (wants_grad(in, 2)) {
        const Arg slope = conjugate(in[1] * in["value"] / (in[2] * in[2]));
        out[2] = real_if(in[2].tensor()->type, -grad * slope);
      }
      return out;
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
