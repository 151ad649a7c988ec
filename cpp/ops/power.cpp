#include "ops/power.h"

#include <cmath>

#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

// pow(tensor, number) runs on the converted base alone.
Arg pow_of_number(Call& in, DType dtype) {
  const Arg base = in["input"];
  TensorType type = base.tensor()->type;
  if (type.dtype != dtype) type.strides = meta::preserved_strides(type);
  const TensorType* operand = &type;
  TensorType out = type;
  out.dtype = dtype;
  out.strides = meta::pointwise_strides({&operand, 1}, type.shape);
  return in.make(std::move(out));
}

Arg pow_meta(Call& in) {
  if (in["exponent"].is_tensor()) {
    return meta::elementwise(in, meta::kNoBool, meta::Result::kCommon);
  }
  const DType dtype = meta::result_type(in, in.args());
  meta::require(in, dtype, meta::kNoBool);
  const Arg exponent = in["exponent"];
  if (is_integral(dtype) && exponent.kind() == Arg::Kind::kInt && exponent.integer() < 0) {
    in.fail(ErrorKind::kRuntime, "negative-power",
            "Integers to negative integer powers are not allowed.");
  }
  return pow_of_number(in, dtype);
}

Arg pow_scalar_meta(Call& in) {
  const DType dtype = meta::result_type(in, in.args());
  meta::require(in, dtype, meta::kNoBool);
  const TensorType& exponent = in.type("exponent");
  return meta::fresh(in, exponent, exponent.shape, dtype);
}

// Computes in float64, or complex128.
Arg float_power_meta(Call& in) {
  const DType common = meta::result_type(in, in.args());
  meta::require(in, common, meta::kAnyDType);
  const DType dtype = is_complex(common) ? DType::kComplex128 : DType::kFloat64;
  if (!in["input"].is_tensor()) {
    return meta::fresh(in, in.type("exponent"), in.type("exponent").shape, dtype);
  }
  if (!in["exponent"].is_tensor()) return pow_of_number(in, dtype);
  return meta::iterate(in, in.args(), dtype, dtype);
}

}  // namespace

constinit const Symbol pow{
    .schema = "pow(Tensor input, Tensor|Scalar exponent) -> Tensor",
    .torch =
        "torch.pow torch.Tensor.pow torch.Tensor.__pow__ operator.pow torch.Tensor.__ipow__ "
        "operator.ipow torch.Tensor.pow_",
    .tags = kElementwise,
    .meta = pow_meta,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      const Arg x = in[0], e = in[1];
      if (e.is_tensor()) {
        if (is_complex(e.tensor()->type.dtype)) in.unsupported("a complex exponent");
        return operand_grads(
            in, [&] { return zero_where(eq(e, 0.0), grad * conjugate(pow(x, e - 1) * e)); },
            [&] {
              const Arg undefined = logical_and(eq(x, 0), ge(e, 0));
              return grad * zero_where(undefined, conjugate(out * log(x)));
            });
      }
      const double exponent = in.real("exponent");
      if (exponent == 0.0) return zero_vjp(in, out, grad);
      if (exponent == 1.0) return grads(in, {grad});
      const Arg lower = exponent == 2.0 ? x : pow(x, exponent - 1.0);
      return grads(in, {grad * conjugate(lower * exponent)});
    },
    .lane = Lane::kPow,
};
constinit const Symbol pow_scalar{
    .schema = "pow.Scalar(Scalar input, Tensor exponent) -> Tensor",
    .torch = "torch.pow operator.pow",
    .tags = kElementwise,
    .meta = pow_scalar_meta,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      real_grad(in, grad);
      const double base = in.real("input");
      const Arg slope = out * std::log(base);
      const Arg covered = base == 0.0 ? zero_where(ge(in[1], 0), slope) : slope;
      return grads(in, {Arg(), grad * covered});
    },
    .lane = Lane::kPow,
};
constinit const Symbol rpow{
    .schema = "rpow(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rpow__",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg {
      const Arg base = in["other"];
      return base.is_tensor() ? pow(base, in["input"]) : pow_scalar(base, in["input"]);
    },
    .aten = "pow(other, input)",
};
constinit const Symbol float_power{
    .schema = "float_power(Tensor input, Tensor|Scalar exponent) -> Tensor",
    .torch = "torch.float_power torch.Tensor.float_power",
    .tags = kElementwise,
    .meta = float_power_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"], e = in["exponent"];
      const bool wide = is_complex(meta::result_type(in, in.args()));
      const DType dtype = wide ? DType::kComplex128 : DType::kFloat64;
      return pow(converted(x, dtype), e.is_tensor() ? converted(e, dtype) : e);
    },
};
constinit const Symbol float_power_scalar{
    .schema = "float_power.Scalar(Scalar input, Tensor exponent) -> Tensor",
    .torch = "torch.float_power",
    .tags = kElementwise,
    .meta = float_power_meta,
    .decompose = [](Call& in) -> Arg {
      const bool wide = is_complex(meta::result_type(in, in.args()));
      const DType dtype = wide ? DType::kComplex128 : DType::kFloat64;
      return pow_scalar(in["input"], converted(in["exponent"], dtype));
    },
};

std::span<const Symbol* const> power_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_POWER_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
