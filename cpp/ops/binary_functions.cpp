#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/pointwise.h"
#include "ops/power.h"
#include "ops/select.h"

// Functions of two tensors that are no arithmetic, rows of pointwise.h.
namespace fulmen::ops {

constinit const Symbol atan2{
    .schema = "atan2(Tensor input, Tensor other) -> Tensor",
    .torch =
        "torch.atan2 torch.Tensor.atan2 torch.arctan2 torch.Tensor.arctan2 "
        "torch.Tensor.atan2_ torch.Tensor.arctan2_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      const Arg square = in[0] * in[0] + in[1] * in[1];
      const Arg inverse = zero_where(eq(square, 0), reciprocal(square));
      return operand_grads(
          in, [&] { return grad * in[1] * inverse; }, [&] { return grad * -in[0] * inverse; });
    },
    .lane = Lane::kAtan2,
};
constinit const Symbol hypot{
    .schema = "hypot(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.hypot torch.Tensor.hypot torch.Tensor.hypot_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad * in[0] / out; }, [&] { return grad * in[1] / out; });
    },
    .lane = Lane::kHypot,
};
constinit const Symbol copysign{
    .schema = "copysign(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.copysign torch.Tensor.copysign torch.Tensor.copysign_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad * zero_where(eq(in[0], 0), out / in[0]); },
          [&] { return zeros_as(grad, in[1].tensor()->type); });
    },
    .lane = Lane::kCopysign,
};
constinit const Symbol nextafter{
    .schema = "nextafter(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.nextafter torch.Tensor.nextafter torch.Tensor.nextafter_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return where(ne(in[0], in[1]), grad, 0.0); },
          [&] { return zeros_as(grad, in[1].tensor()->type); });
    },
    .lane = Lane::kNextafter,
};
constinit const Symbol logaddexp{
    .schema = "logaddexp(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.logaddexp torch.Tensor.logaddexp",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInexact, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      return operand_grads(
          in, [&] { return grad / (exp(in[1] - in[0]) + 1); },
          [&] { return grad / (exp(in[0] - in[1]) + 1); });
    },
};
constinit const Symbol logaddexp2{
    .schema = "logaddexp2(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.logaddexp2 torch.Tensor.logaddexp2",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad / (pow_scalar(2, in[1] - in[0]) + 1); },
          [&] { return grad / (pow_scalar(2, in[0] - in[1]) + 1); });
    },
};
constinit const Symbol ldexp{
    .schema = "ldexp(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.ldexp torch.Tensor.ldexp torch.ldexp_ torch.Tensor.ldexp_",
    .tags = kElementwise | kFloatResult,
    .decompose = [](Call& in) -> Arg {
      const DType a = in.type("input").dtype, b = in.type("other").dtype;
      const auto simple = [](DType t) {
        return is_integral(t) || t == DType::kFloat32 || t == DType::kFloat64;
      };
      if (!simple(a) || !simple(b) || (a != b && is_floating(a) && is_floating(b))) {
        in.unsupported("these dtypes");
      }
      return in["input"] * pow_scalar(2.0, in["other"]);
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad * pow_scalar(2, in[1]); },
          [&] { return grad * out * 0.6931471805599453; });
    },
};
constinit const Symbol heaviside{
    .schema = "heaviside(Tensor input, Tensor values) -> Tensor",
    .torch = "torch.heaviside torch.Tensor.heaviside torch.Tensor.heaviside_",
    .tags = kElementwise,
    .meta = meta::elementwise_unpromoted<meta::kReals>,
};
constinit const Symbol gcd{
    .schema = "gcd(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.gcd torch.Tensor.gcd torch.gcd_ torch.Tensor.gcd_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInts, meta::Result::kCommon>,
};
constinit const Symbol lcm{
    .schema = "lcm(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.lcm torch.Tensor.lcm torch.lcm_ torch.Tensor.lcm_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInts, meta::Result::kCommon>,
};

}  // namespace fulmen::ops
