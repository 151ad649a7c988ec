#include "ops/activation.h"
#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/select.h"
#include "ops/shape.h"
#include "ops/special.h"

namespace fulmen::ops {
namespace {

// On CPU ATen's kernels write a tensor like this operand.
template <size_t kParam>
Arg like_operand(Call& in) {
  const TensorType &grad = in[0].tensor()->type, &self = in.type("self");
  meta::require(in, self.dtype, meta::kFloats);
  if (grad.dtype != self.dtype || !(grad.shape == self.shape)) {
    in.unsupported("a gradient of another shape or dtype");
  }
  TensorType out = in[kParam].tensor()->type;
  out.strides = meta::preserved_strides(out);
  return in.make(std::move(out));
}

// For decompositions, in which another operand than the kernel's first comes first and would choose
// the layout of the result.
void require_one_layout(const Call& in) {
  const TensorType &grad = in[0].tensor()->type, &self = in.type("self");
  if (!(grad.strides == self.strides))
    in.unsupported("the decomposition of operands of two layouts");
}

Arg contiguous_like_self(Call& in, const Arg& self) {
  return meta::fresh(in, self.tensor()->type, self.tensor()->type.shape, self.tensor()->type.dtype);
}

Arg prelu_backward_meta(Call& in) {
  const TensorType &grad = in.type("grad_output"), &self = in.type("self"),
                   &weight = in.type("weight");
  if (weight.dtype != self.dtype || grad.dtype != self.dtype) in.unsupported("several dtypes");
  const Arg operands[] = {in["self"], in["weight"], in["grad_output"]};
  const Arg first = meta::iterate(in, operands, self.dtype, self.dtype);
  return in.tuple({first, in.make(first.tensor()->type)});
}

Arg gelu_gradient(Call& in) {
  const Opmath math(in);
  const Arg x = math.up(in["self"]), g = math.up(in["grad_output"]);
  if (in.text("approximate") == "tanh") {
    const Arg square = x * x;
    const Arg t = tanh((x + x * square * 0.044715) * 0.7978845608028654);
    const Arg inner = (square * 0.134145 + 1.0) * 0.7978845608028654;
    return math.down(g * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * inner));
  }
  const Arg cdf = (erf(x * 0.7071067811865476) + 1.0) * 0.5;
  const Arg pdf = exp(x * x * Arg(-0.5)) * 0.3989422804014327;
  return math.down(g * (cdf + x * pdf));
}

// What a NaN's gradient is differs from one function to the other; here it is as of eager's
// vectors, whose last elements eager computes in another way.
Arg elu_gradient(Call& in) {
  const Opmath math(in);
  const Arg x = math.up(in["self_or_result"]), g = math.up(in["grad_output"]);
  const double alpha = in.real("alpha"), scale = in.real("scale"), step = in.real("input_scale");
  const Arg slope = in.flag("is_result") ? (x + Arg(alpha * scale)) * Arg(step)
                                         : exp(x * Arg(step)) * Arg(step * alpha * scale);
  return math.down(where(gt(x, 0), g * Arg(scale), g * slope));
}

}  // namespace

constinit const Symbol threshold_backward{
    .schema = "threshold_backward(Tensor grad_output, Tensor self, Scalar threshold) -> Tensor",
    .torch = "torch.ops.aten.threshold_backward",
    .tags = kElementwise,
    .meta =
        [](Call& in) {
          // ATen iterates over (self, grad).
          const Arg operands[] = {in["self"], in["grad_output"]};
          const DType dtype = meta::result_type(in, operands);
          meta::require(in, dtype, meta::kNumeric);
          return meta::iterate(in, operands, dtype, dtype);
        },
    .decompose = [](Call& in) -> Arg {
      return where(le(in["self"], in["threshold"]), 0.0, in["grad_output"]);
    },
};
constinit const Symbol hardtanh_backward{
    .schema =
        "hardtanh_backward(Tensor grad_output, Tensor self, Scalar min_val, Scalar max_val) -> "
        "Tensor",
    .torch = "torch.ops.aten.hardtanh_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      const Arg x = in["self"];
      const Arg inside = logical_and(gt(x, in["min_val"]), lt(x, in["max_val"]));
      return where(inside, in["grad_output"], 0.0);
    },
};
constinit const Symbol elu_backward{
    .schema =
        "elu_backward(Tensor grad_output, Scalar alpha, Scalar scale, Scalar input_scale, "
        "bool is_result, Tensor self_or_result) -> Tensor",
    .torch = "torch.ops.aten.elu_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = elu_gradient,
};
constinit const Symbol leaky_relu_backward{
    .schema =
        "leaky_relu_backward(Tensor grad_output, Tensor self, Scalar negative_slope, "
        "bool self_is_result) -> Tensor",
    .torch = "torch.ops.aten.leaky_relu_backward",
    .tags = kElementwise,
    .meta =
        [](Call& in) {
          const Arg operands[] = {in["self"], in["grad_output"]};
          const DType dtype = meta::result_type(in, operands);
          meta::require(in, dtype, meta::kFloats);
          return meta::iterate(in, operands, dtype, dtype);
        },
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in);
      const Arg g = math.up(in["grad_output"]);
      return math.down(where(gt(in["self"], 0), g, g * in["negative_slope"]));
    },
};
constinit const Symbol silu_backward{
    .schema = "silu_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten.silu_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInexact, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in);
      const Arg x = math.up(in["self"]), s = sigmoid(x);
      return math.down(math.up(in["grad_output"]) * s * (x * (1.0 - s) + 1.0));
    },
};
constinit const Symbol mish_backward{
    .schema = "mish_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten.mish_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in);
      const Arg x = math.up(in["self"]);
      const Arg s = sigmoid(x), t = tanh(log1p(exp(x)));
      return math.down(math.up(in["grad_output"]) * (t + x * s * (1.0 - t * t)));
    },
};
constinit const Symbol hardswish_backward{
    .schema = "hardswish_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten.hardswish_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      const Opmath math(in);
      const Arg x = math.up(in["self"]), g = math.up(in["grad_output"]);
      const Arg middle = where(ge(x, 3.0), g, g * (x / 3.0 + 0.5));
      return math.down(where(le(x, -3.0), 0.0, middle));
    },
};
constinit const Symbol hardsigmoid_backward{
    .schema = "hardsigmoid_backward(Tensor grad_output, Tensor self) -> Tensor",
    .torch = "torch.ops.aten.hardsigmoid_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      const Opmath math(in);
      const Arg x = math.up(in["self"]), g = math.up(in["grad_output"]);
      const Arg inside = logical_and(gt(x, -3.0), lt(x, 3.0));
      // ATen's constant is a float32, for float64 as well.
      return math.down(where(inside, g * double{1.0F / 6.0F}, 0.0));
    },
};
constinit const Symbol gelu_backward{
    .schema = "gelu_backward(Tensor grad_output, Tensor self, *, str approximate='none') -> Tensor",
    .torch = "torch.ops.aten.gelu_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = gelu_gradient,
};
constinit const Symbol softplus_backward{
    .schema =
        "softplus_backward(Tensor grad_output, Tensor self, Scalar beta, Scalar threshold) -> "
        "Tensor",
    .torch = "torch.ops.aten.softplus_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      const Opmath math(in);
      const Arg g = math.up(in["grad_output"]);
      const Arg x = math.up(in["self"]) * in["beta"], z = exp(x);
      return math.down(where(gt(x, in["threshold"]), g, g * z / (z + 1.0)));
    },
};
constinit const Symbol hardshrink_backward{
    .schema = "hardshrink_backward(Tensor grad_out, Tensor self, Scalar lambd) -> Tensor",
    .torch = "torch.ops.aten.hardshrink_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      return where(gt(abs(in["self"]), in["lambd"]), in["grad_out"], 0.0);
    },
};
constinit const Symbol softshrink_backward{
    .schema = "softshrink_backward(Tensor grad_output, Tensor self, Scalar lambd) -> Tensor",
    .torch = "torch.ops.aten.softshrink_backward",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      return where(gt(abs(in["self"]), in["lambd"]), in["grad_output"], 0.0);
    },
};
// (output, buffer); the buffer holds what the gradient takes from the CPU kernel.
constinit const Symbol log_sigmoid_forward{
    .schema = "log_sigmoid_forward(Tensor self) -> (Tensor, Tensor)",
    .torch = "torch.ops.aten.log_sigmoid_forward",
    .tags = kPure | kFirstDifferentiable,
    .meta = [](Call& in) -> Arg {
      meta::require(in, in.type("self").dtype, meta::kFloats);
      if (in.type("self").device.type != DeviceType::kCPU) in.unsupported("a buffer of no size");
      return in.tuple({contiguous_like_self(in, in["self"]), contiguous_like_self(in, in["self"])});
    },
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in);
      const Arg x = math.up(record(
          contiguous, {in["self"], Arg::named(Arg::Kind::kMemoryFormat, "contiguous_format")}));
      const Arg z = exp(-abs(x));
      return in.tuple({math.down(clamp_max(x, 0.0) - log1p(z)), math.down(z)});
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads_of(in,
                      {{"self", log_sigmoid_backward(item(grad, 0), in["self"], item(out, 1))}});
    },
};
constinit const Symbol log_sigmoid_backward{
    .schema = "log_sigmoid_backward(Tensor grad_output, Tensor self, Tensor buffer) -> Tensor",
    .torch = "torch.ops.aten.log_sigmoid_backward",
    .tags = kElementwise,
    .meta = like_operand<0>,
    .decompose = [](Call& in) -> Arg {
      require_one_layout(in);
      const Opmath math(in);
      const Arg x = math.up(in["self"]), z = math.up(in["buffer"]);
      const Arg negative = lt(x, 0), sign = where(negative, 1.0, -1.0);
      const Arg most = where(negative, 1.0, 0.0);
      return math.down((most - sign * (z / (z + 1.0))) * math.up(in["grad_output"]));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      // The buffer depends on `self`, of which it is no more than a function.
      Arg of_grad, of_self;
      if (wants_grad(in, "grad_output"))
        of_grad = log_sigmoid_backward(grad, in["self"], in["buffer"]);
      if (wants_grad(in, "self")) {
        const Arg z = sigmoid(in["self"]);
        of_self = grad * in["grad_output"] * (z - 1) * z;
      }
      return grads_of(in, {{"grad_output", of_grad}, {"self", of_self}});
    },
};
constinit const Symbol glu_backward{
    .schema = "glu_backward(Tensor grad_output, Tensor self, int dim) -> Tensor",
    .torch = "torch.ops.aten.glu_backward",
    .tags = kPure,
    .meta = [](Call& in) -> Arg {
      const TensorType& self = in.type("self");
      meta::require(in, self.dtype, meta::kFloats);
      if (in.type("grad_output").dtype != self.dtype) in.unsupported("several dtypes");
      return meta::fresh(in, self, self.shape, self.dtype);
    },
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["self"];
      const TensorType& type = in.type("self");
      const int64_t dim = meta::wrap_dim(in, in.integer("dim"), type.ndim());
      const int64_t half = type.shape[dim].value() / 2;
      const Opmath math(in);
      const Arg g = math.up(in["grad_output"]);
      const Arg a = math.up(narrow(x, dim, 0, half)),
                s = sigmoid(math.up(narrow(x, dim, half, half)));
      const Arg parts[] = {math.down(s * g), math.down((1.0 - s) * s * g * a)};
      return record(cat, {in.list(parts), Arg(dim)});
    },
};
// Both gradients have the broadcast shape: the weight's is summed afterwards.
constinit const Symbol prelu_kernel_backward{
    .schema =
        "_prelu_kernel_backward(Tensor grad_output, Tensor self, Tensor weight) -> (Tensor, "
        "Tensor)",
    .torch = "torch.ops.aten._prelu_kernel_backward",
    .tags = kPure | kPointwise,
    .meta = prelu_backward_meta,
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in);
      const Arg x = math.up(in["self"]), g = math.up(in["grad_output"]);
      const Arg positive = gt(x, 0);
      return in.tuple({math.down(where(positive, g, g * math.up(in["weight"]))),
                       math.down(where(positive, 0.0, x * g))});
    },
};

}  // namespace fulmen::ops
