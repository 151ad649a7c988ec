#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/unary.h"

// Trigonometric and hyperbolic functions, rows of unary.h.
namespace fulmen::ops {

constinit const Symbol sin{
    .schema = "sin(Tensor input) -> Tensor",
    .torch = "torch.sin torch.Tensor.sin torch.sin_ torch.Tensor.sin_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(cos(in[0]))});
    },
    .lane = Lane::kSin,
};
constinit const Symbol cos{
    .schema = "cos(Tensor input) -> Tensor",
    .torch = "torch.cos torch.Tensor.cos torch.cos_ torch.Tensor.cos_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * -conjugate(sin(in[0]))});
    },
    .lane = Lane::kCos,
};
constinit const Symbol tan{
    .schema = "tan(Tensor input) -> Tensor",
    .torch = "torch.tan torch.Tensor.tan torch.tan_ torch.Tensor.tan_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(out * out + 1)});
    },
    .lane = Lane::kTan,
};
constinit const Symbol asin{
    .schema = "asin(Tensor input) -> Tensor",
    .torch =
        "torch.asin torch.Tensor.asin torch.arcsin torch.Tensor.arcsin torch.asin_ "
        "torch.Tensor.asin_ torch.arcsin_ torch.Tensor.arcsin_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(rsqrt(-in[0] * in[0] + 1))});
    },
    .lane = Lane::kAsin,
};
constinit const Symbol acos{
    .schema = "acos(Tensor input) -> Tensor",
    .torch =
        "torch.acos torch.Tensor.acos torch.arccos torch.Tensor.arccos torch.acos_ "
        "torch.Tensor.acos_ torch.arccos_ torch.Tensor.arccos_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * -conjugate(rsqrt(-in[0] * in[0] + 1))});
    },
    .lane = Lane::kAcos,
};
constinit const Symbol atan{
    .schema = "atan(Tensor input) -> Tensor",
    .torch =
        "torch.atan torch.Tensor.atan torch.arctan torch.Tensor.arctan torch.atan_ "
        "torch.Tensor.atan_ torch.arctan_ torch.Tensor.arctan_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / conjugate(in[0] * in[0] + 1)});
    },
    .lane = Lane::kAtan,
};
constinit const Symbol sinh{
    .schema = "sinh(Tensor input) -> Tensor",
    .torch = "torch.sinh torch.Tensor.sinh torch.sinh_ torch.Tensor.sinh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(cosh(in[0]))});
    },
    .lane = Lane::kSinh,
};
constinit const Symbol cosh{
    .schema = "cosh(Tensor input) -> Tensor",
    .torch = "torch.cosh torch.Tensor.cosh torch.cosh_ torch.Tensor.cosh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(sinh(in[0]))});
    },
    .lane = Lane::kCosh,
};
constinit const Symbol tanh{
    .schema = "tanh(Tensor input) -> Tensor",
    .torch = "torch.tanh torch.Tensor.tanh torch.nn.functional.tanh torch.tanh_ torch.Tensor.tanh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {tanh_backward(grad, out)});
    },
    .lane = Lane::kTanh,
};
constinit const Symbol asinh{
    .schema = "asinh(Tensor input) -> Tensor",
    .torch =
        "torch.asinh torch.Tensor.asinh torch.arcsinh torch.Tensor.arcsinh torch.asinh_ "
        "torch.Tensor.asinh_ torch.arcsinh_ torch.Tensor.arcsinh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(rsqrt(in[0] * in[0] + 1))});
    },
    .lane = Lane::kAsinh,
};
constinit const Symbol acosh{
    .schema = "acosh(Tensor input) -> Tensor",
    .torch =
        "torch.acosh torch.Tensor.acosh torch.arccosh torch.Tensor.arccosh torch.acosh_ "
        "torch.Tensor.acosh_ torch.arccosh_ torch.Tensor.arccosh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * rsqrt(in[0] * in[0] - 1.0));
    },
    .lane = Lane::kAcosh,
};
constinit const Symbol atanh{
    .schema = "atanh(Tensor input) -> Tensor",
    .torch =
        "torch.atanh torch.Tensor.atanh torch.arctanh torch.Tensor.arctanh torch.atanh_ "
        "torch.Tensor.atanh_ torch.arctanh_ torch.Tensor.arctanh_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / conjugate(1 - in[0] * in[0])});
    },
    .lane = Lane::kAtanh,
};
constinit const Symbol sinc{
    .schema = "sinc(Tensor input) -> Tensor",
    .torch = "torch.sinc torch.Tensor.sinc torch.special.sinc torch.sinc_ torch.Tensor.sinc_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = sinc_vjp,
};

}  // namespace fulmen::ops
