#include <limits>

#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/select.h"

// Backward operations that ATen has as kernels of their own, which round once in half precision.
namespace fulmen::ops {

Args sinc_vjp(Call& in, const Arg&, const Arg& grad) {
  const Arg x = in[0], scaled = x * 3.141592653589793, square = x * x * 3.141592653589793;
  const Arg slope = (scaled * cos(scaled) - sin(scaled)) / square;
  return grads(in, {zero_where(eq(square, 0), grad * conjugate(slope))});
}

constinit const Symbol sigmoid_backward{
    .schema = "sigmoid_backward(Tensor grad_output, Tensor output) -> Tensor",
    .torch = "torch.ops.aten.sigmoid_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInexact, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg g = math.up(in[0]), y = math.up(conjugate(in[1]));
      return math.down(g * (1.0 - y) * y);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      return grads(in, {wants_grad(in, 0) ? sigmoid_backward(grad, in[1]) : Arg(),
                        wants_grad(in, 1) ? grad * in[0] * (in[1] * -2 + 1) : Arg()});
    },
};
constinit const Symbol tanh_backward{
    .schema = "tanh_backward(Tensor grad_output, Tensor output) -> Tensor",
    .torch = "torch.ops.aten.tanh_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInexact, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg g = math.up(in[0]), y = math.up(conjugate(in[1]));
      return math.down(g * (1.0 - y * y));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      real_grad(in, grad);
      return grads(in, {wants_grad(in, 0) ? tanh_backward(grad, in[1]) : Arg(),
                        wants_grad(in, 1) ? grad * (in[1] * -2 * in[0]) : Arg()});
    },
};
constinit const Symbol logit_backward{
    .schema = "logit_backward(Tensor grad_output, Tensor input, float? eps=None) -> Tensor",
    .torch = "torch.ops.aten.logit_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg g = math.up(in[0]), x = math.up(in[1]);
      const Arg slope = g / (x * (1.0 - x));
      const double eps = in.has("eps") ? in.real("eps") : -1.0;
      const bool clamps = eps >= 0;
      const Arg outside = logical_or(lt(x, clamps ? eps : 0.0), gt(x, clamps ? 1.0 - eps : 1.0));
      const double beyond = clamps ? 0.0 : std::numeric_limits<double>::quiet_NaN();
      return math.down(where(outside, beyond, slope));
    },
};

}  // namespace fulmen::ops
