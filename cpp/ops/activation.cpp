#include "ops/activation.h"

#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/special.h"

namespace fulmen::ops {
namespace {

constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
constexpr double kSeluScale = 1.0507009873554804934193349852946;

// torch.nn.functional's `inplace` argument: only the functional form is this row.
template <uint8_t accept>
Arg activation(Call& in) {
  if (in.flag("inplace")) in.unsupported("inplace=True");
  return meta::elementwise(in, accept, meta::Result::kCommon);
}

Arg log_sigmoid_meta(Call& in) {
  const TensorType& input = in.type("input");
  meta::require(in, input.dtype, meta::kFloats);
  return meta::fresh(in, input, input.shape, input.dtype);
}

// Eager writes into a tensor like the input.
Arg hardtanh_meta(Call& in) {
  if (in.flag("inplace")) in.unsupported("inplace=True");
  meta::require(in, in.type("input").dtype, meta::kFloats);
  return meta::like(in);
}

// input[..., :n] * sigmoid(input[..., n:])
Arg glu_meta(Call& in) {
  TensorType half = in.type("input");
  meta::require(in, half.dtype, meta::kFloats);
  if (half.ndim() == 0) {
    in.fail(ErrorKind::kRuntime, "glu-shape",
            "glu does not support scalars because halving size must be even");
  }
  const int64_t dim = meta::wrap_dim(in, in.integer("dim"), half.ndim());
  const int64_t size = half.shape[dim].value();
  if (size % 2) {
    in.fail(ErrorKind::kRuntime, "glu-shape", "Halving dimension must be even, but dimension ", dim,
            " is size ", size);
  }
  half.shape[dim] = size / 2;
  const TensorType* operands[] = {&half, &half};
  TensorType out = half;
  out.strides = meta::pointwise_strides(operands, half.shape);
  return in.make(std::move(out));
}

// One weight, or one for each channel (dimension 1).
Arg prelu_meta(Call& in) {
  const TensorType& input = in.type("input");
  const TensorType& weight = in.type("weight");
  meta::require(in, input.dtype, meta::kFloats);
  if (weight.dtype != input.dtype || weight.ndim() > 1 || weight.device != input.device) {
    in.unsupported("this weight");
  }
  const bool one = is_one(numel(weight));
  if (!one && (input.ndim() < 2 || !(numel(weight) == input.shape[1]))) {
    in.unsupported("this weight's size");
  }
  return meta::like(in);
}

// ATen reads alpha as a float here.
Arg celu_gradient(Call& in, const Arg& grad) {
  const double step = 1.0 / static_cast<double>(static_cast<float>(in.real("alpha")));
  return elu_backward(grad, in["alpha"], 1, step, false, in[0]);
}

Args prelu_vjp(Call& in, const Arg&, const Arg& grad) {
  const TensorType& x = in.type("input");
  const TensorType& weight = in.type("weight");
  // One weight stands for all channels, or there is one for each.
  Args shape(x.ndim(), Arg(1));
  if (shape.size() > 1) shape[1] = Arg(numel(weight));
  const bool reshaped = x.ndim() != weight.ndim();
  const Arg viewed = reshaped ? record(view, {in["weight"], in.list(shape)}) : in["weight"];
  const Arg both = prelu_kernel_backward(grad, in["input"], viewed);
  if (!wants_grad(in, "weight")) return first_grad(in, item(both, 0));
  Arg weight_grad = reduced_to(item(both, 1), viewed.tensor()->type);
  if (reshaped) weight_grad = record(view, {weight_grad, in.dims_arg(weight.shape)});
  return grads(in, {item(both, 0), weight_grad});
}

}  // namespace

constinit const Symbol relu{
    .schema = "relu(Tensor input, bool inplace=False) -> Tensor",
    .torch =
        "torch.relu torch.Tensor.relu torch.nn.functional.relu torch.relu_ "
        "torch.Tensor.relu_ torch.nn.functional.relu_",
    .tags = kElementwise,
    .meta = activation<meta::kNumeric>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return first_grad(in, threshold_backward(grad, out, 0));
    },
    .lane = Lane::kRelu,
    .aten = "relu(input)",
};
constinit const Symbol relu6{
    .schema = "relu6(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.relu6 torch._C._nn.relu6 torch._C._nn.relu6_",
    .tags = kElementwise,
    .meta = hardtanh_meta,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(clamp(x, 0.0, 6.0));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, hardtanh_backward(grad, in[0], 0, 6));
    },
    .aten = "hardtanh(input, 0, 6)",
};
constinit const Symbol hardtanh{
    .schema =
        "hardtanh(Tensor input, Scalar min_val=-1.0, Scalar max_val=1.0, bool "
        "inplace=False) -> Tensor",
    .torch =
        "torch.nn.functional.hardtanh torch._C._nn.hardtanh torch.nn.functional.hardtanh_ "
        "torch._C._nn.hardtanh_",
    .tags = kElementwise,
    .meta = hardtanh_meta,
    .decompose = [](Call& in) -> Arg { return clamp(in["input"], in["min_val"], in["max_val"]); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, hardtanh_backward(grad, in[0], in["min_val"], in["max_val"]));
    },
    .aten = "hardtanh(input, min_val, max_val)",
};
constinit const Symbol elu{
    .schema = "elu(Tensor input, Scalar alpha=1.0, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.elu torch._C._nn.elu torch.nn.functional.elu_ torch._C._nn.elu_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      const Arg tail = expm1(x) * in["alpha"];
      return math.down(where(gt(x, 0), x, tail));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, elu_backward(grad, in["alpha"], 1, 1, false, in[0]));
    },
    .aten = "elu(input, alpha)",
};
constinit const Symbol selu{
    .schema = "selu(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.selu torch.nn.functional.selu torch.selu_ torch.nn.functional.selu_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      const Arg tail = expm1(x) * (kSeluAlpha * kSeluScale);
      return math.down(where(gt(x, 0), x * kSeluScale, tail));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, elu_backward(grad, kSeluAlpha, kSeluScale, 1, false, in[0]));
    },
    .aten = "selu(input)",
};
constinit const Symbol celu{
    .schema = "celu(Tensor input, Scalar alpha=1.0, bool inplace=False) -> Tensor",
    .torch = "torch.celu torch.nn.functional.celu torch.celu_ torch.nn.functional.celu_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      const double alpha = in.real("alpha");
      const Arg tail = expm1(x * (1.0 / alpha)) * alpha;
      return math.down(where(gt(x, 0), x, tail));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, celu_gradient(in, grad));
    },
    .aten = "celu(input, alpha)",
};
constinit const Symbol leaky_relu{
    .schema = "leaky_relu(Tensor input, Scalar negative_slope=0.01, bool inplace=False) -> Tensor",
    .torch =
        "torch.nn.functional.leaky_relu torch._C._nn.leaky_relu "
        "torch.nn.functional.leaky_relu_ torch._C._nn.leaky_relu_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(where(gt(x, 0), x, x * in["negative_slope"]));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, leaky_relu_backward(grad, in[0], in["negative_slope"], false));
    },
    .aten = "leaky_relu(input, negative_slope)",
};
constinit const Symbol threshold{
    .schema =
        "threshold(Tensor input, Scalar threshold, Scalar value, bool inplace=False) -> "
        "Tensor",
    .torch =
        "torch.threshold torch.nn.functional.threshold torch.threshold_ "
        "torch.nn.functional.threshold_",
    .tags = kElementwise,
    .meta = activation<meta::kNumeric>,
    .decompose = [](Call& in) -> Arg {
      if (!is_floating(in.type("input").dtype)) in.unsupported("the decomposition for integers");
      return where(le(in["input"], in["threshold"]), in["value"], in["input"]);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, threshold_backward(grad, in[0], in["threshold"]));
    },
    .aten = "threshold(input, threshold, value)",
};
constinit const Symbol silu{
    .schema = "silu(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.silu torch._C._nn.silu torch._C._nn.silu_",
    .tags = kElementwise,
    .meta = activation<meta::kInexact>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(x / (exp(-x) + 1.0));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, silu_backward(real_grad(in, grad), in[0]));
    },
    .aten = "silu(input)",
};
constinit const Symbol mish{
    .schema = "mish(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.mish torch._C._nn.mish torch._C._nn.mish_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(x * tanh(log1p(exp(x))));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, mish_backward(grad, in[0]));
    },
    .aten = "mish(input)",
};
constinit const Symbol hardswish{
    .schema = "hardswish(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.hardswish torch._C._nn.hardswish torch._C._nn.hardswish_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(x * clamp(x + 3.0, 0.0, 6.0) / 6.0);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, hardswish_backward(grad, in[0]));
    },
    .aten = "hardswish(input)",
};
constinit const Symbol hardsigmoid{
    .schema = "hardsigmoid(Tensor input, bool inplace=False) -> Tensor",
    .torch = "torch.nn.functional.hardsigmoid torch._C._nn.hardsigmoid torch._C._nn.hardsigmoid_",
    .tags = kElementwise,
    .meta = activation<meta::kFloats>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      return math.down(clamp(x + 3.0, 0.0, 6.0) / 6.0);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, hardsigmoid_backward(grad, in[0]));
    },
    .aten = "hardsigmoid(input)",
};
constinit const Symbol gelu{
    .schema = "gelu(Tensor input, *, str approximate='none') -> Tensor",
    .torch = "torch.nn.functional.gelu torch._C._nn.gelu torch._C._nn.gelu_",
    .tags = kElementwise,
    .meta = [](Call& in) -> Arg {
      const std::string_view how = in.text("approximate");
      if (how != "none" && how != "tanh") {
        in.fail(ErrorKind::kRuntime, "approximate", "there is no approximation '", how,
                "'; expected 'none' or 'tanh'");
      }
      return meta::elementwise<meta::kFloats, meta::Result::kCommon>(in);
    },
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      if (in.text("approximate") == "tanh") {
        const Arg inner = (x + x * x * x * 0.044715) * 0.7978845608028654;
        return math.down(x * 0.5 * (tanh(inner) + 1.0));
      }
      return math.down(x * 0.5 * (erf(x * 0.7071067811865476) + 1.0));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, record(gelu_backward, {grad, in[0], in["approximate"]}));
    },
};
constinit const Symbol softplus{
    .schema = "softplus(Tensor input, Scalar beta=1, Scalar threshold=20) -> Tensor",
    .torch = "torch.nn.functional.softplus torch._C._nn.softplus",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      const Arg scaled = x * in["beta"];
      return math.down(where(gt(scaled, in["threshold"]), x, log1p(exp(scaled)) / in["beta"]));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, softplus_backward(grad, in[0], in["beta"], in["threshold"]));
    },
};
constinit const Symbol hardshrink{
    .schema = "hardshrink(Tensor input, Scalar lambd=0.5) -> Tensor",
    .torch = "torch.hardshrink torch.Tensor.hardshrink torch.nn.functional.hardshrink",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      return where(le(abs(in["input"]), in["lambd"]), 0.0, in["input"]);
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, hardshrink_backward(grad, in[0], in["lambd"]));
    },
};
constinit const Symbol softshrink{
    .schema = "softshrink(Tensor input, Scalar lambd=0.5) -> Tensor",
    .torch = "torch.nn.functional.softshrink torch._C._nn.softshrink",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(in["input"]);
      const double lambd = in.real("lambd");
      const Arg low = where(lt(x, -lambd), x + lambd, x * 0.0);
      return math.down(where(gt(x, lambd), x - lambd, low));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, softshrink_backward(grad, in[0], in["lambd"]));
    },
};
constinit const Symbol log_sigmoid{
    .schema = "log_sigmoid(Tensor input) -> Tensor",
    .torch = "torch.nn.functional.logsigmoid torch._C._nn.log_sigmoid",
    .tags = kElementwise,
    .meta = log_sigmoid_meta,
    .decompose = [](Call& in) -> Arg {
      Opmath math(in);
      const Arg x = math.up(contiguous(in["input"]));
      return math.down(clamp_max(x, 0.0) - log1p(exp(-abs(x))));
    },
    .augmented = [](Call& in) -> Arg { return item(log_sigmoid_forward(in["input"]), 0); },
};
constinit const Symbol softsign{
    .schema = "softsign(Tensor input) -> Tensor",
    .torch = "torch.nn.functional.softsign",
    .tags = kElementwise | kFloatResult,
    .decompose = [](Call& in) -> Arg { return in["input"] / (abs(in["input"]) + 1); },
    .aten = "-",
};
constinit const Symbol tanhshrink{
    .schema = "tanhshrink(Tensor input) -> Tensor",
    .torch = "torch.nn.functional.tanhshrink",
    .tags = kElementwise | kFloatResult,
    .decompose = [](Call& in) -> Arg { return in["input"] - tanh(in["input"]); },
    .aten = "-",
};
constinit const Symbol glu{
    .schema = "glu(Tensor input, int dim=-1) -> Tensor",
    .torch = "torch.nn.functional.glu torch._C._nn.glu",
    .tags = kPure,
    .meta = glu_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"];
      const TensorType& type = in.type("input");
      const int64_t dim = meta::wrap_dim(in, in.integer("dim"), type.ndim());
      const int64_t half = type.shape[dim].value() / 2;
      Opmath math(in);
      const Arg a = math.up(narrow(x, dim, 0, half)), b = math.up(narrow(x, dim, half, half));
      return math.down(a * sigmoid(b));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, glu_backward(grad, in[0], in["dim"]));
    },
};
constinit const Symbol prelu{
    .schema = "prelu(Tensor input, Tensor weight) -> Tensor",
    .torch = "torch.prelu torch.Tensor.prelu torch.nn.functional.prelu",
    .tags = kPure,
    .meta = prelu_meta,
    .vjp = prelu_vjp,
};

std::span<const Symbol* const> activation_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_ACTIVATION_OPS(X) FULMEN_ACTIVATION_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
