#include "ops/softmax.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/ordering.h"
#include "ops/reduction.h"
#include "ops/select.h"
#include "ops/shape.h"

namespace fulmen::ops {
namespace {

Arg softmax_meta(Call& in) {
  const TensorType& input = in.type("input");
  const DType dtype = in.dtype("dtype").value_or(input.dtype);
  meta::require(in, input.dtype, meta::kReals);
  meta::require(in, dtype, meta::kFloats);
  if (!in.has("dim")) in.unsupported("an implicit dimension");
  meta::wrap_dim(in, in.integer("dim"), input.ndim());
  return meta::fresh(in, input, input.shape, dtype);
}

Arg input_of(Call& in) {
  return in.has("dtype") ? converted(in["input"], *in.dtype("dtype")) : in["input"];
}

Arg softmax_grad(const Symbol& backward, Call& in, const Arg& out, const Arg& grad) {
  return record(backward, {grad, out, in["dim"], Arg(out.tensor()->type.dtype)});
}

Arg backward_meta(Call& in) {
  const TensorType &grad = in.type("grad_output"), &out = in.type("output");
  meta::require(in, grad.dtype, meta::kFloats);
  if (grad.dtype != out.dtype || !(grad.shape == out.shape)) {
    in.unsupported("a gradient of another dtype or shape");
  }
  if (in.dtype("input_dtype") != grad.dtype) in.unsupported("an input of another dtype");
  return meta::fresh(in, grad, grad.shape, grad.dtype);
}

}  // namespace

constinit const Symbol softmax{
    .schema =
        "softmax(Tensor input, int? dim=None, int _stacklevel=3, dtype? dtype=None) -> "
        "Tensor",
    .torch = "torch.nn.functional.softmax torch.softmax torch.Tensor.softmax torch.special.softmax",
    .tags = kPure | kReduction,
    .meta = softmax_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg input = contiguous(input_of(in));
      Opmath math(input.tensor()->type.dtype);
      const Arg x = math.up(input), dim = in["dim"];
      const Arg e = exp(x - amax(x, dim, true));
      return math.down(e / sum_dim(e, dim, true));
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return first_grad(in, softmax_grad(softmax_backward_data, in, out, grad));
    },
    .aten = "softmax(input, dim, dtype)",
};
constinit const Symbol log_softmax{
    .schema =
        "log_softmax(Tensor input, int? dim=None, int _stacklevel=3, dtype? dtype=None) -> "
        "Tensor",
    .torch =
        "torch.nn.functional.log_softmax torch.log_softmax torch.Tensor.log_softmax "
        "torch.special.log_softmax",
    .tags = kPure | kReduction,
    .meta = softmax_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg input = contiguous(input_of(in));
      Opmath math(input.tensor()->type.dtype);
      const Arg x = math.up(input), dim = in["dim"];
      const Arg shifted = x - amax(x, dim, true);
      return math.down(shifted - log(sum_dim(exp(shifted), dim, true)));
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return first_grad(in, softmax_grad(log_softmax_backward_data, in, out, grad));
    },
    .aten = "log_softmax(input, dim, dtype)",
};
constinit const Symbol softmin{
    .schema =
        "softmin(Tensor input, int? dim=None, int _stacklevel=3, dtype? dtype=None) -> "
        "Tensor",
    .torch = "torch.nn.functional.softmin",
    .tags = kPure | kReduction,
    .decompose = [](Call& in) -> Arg {
      if (!in.has("dim")) in.unsupported("an implicit dimension");
      return record(softmax, {-in["input"], in["dim"], in["_stacklevel"], in["dtype"]});
    },
    .aten = "-",
};

constinit const Symbol safe_softmax{
    .schema = "_safe_softmax(Tensor self, int dim, *, dtype? dtype=None) -> Tensor",
    .torch =
        "torch.ops.aten._safe_softmax torch._safe_softmax torch.ops.aten._safe_softmax.default",
    .tags = kPure | kReduction,
    .meta =
        [](Call& in) {
          const TensorType& self = in.type("self");
          meta::require(in, self.dtype, meta::kFloats);
          if (in.has("dtype")) in.unsupported("dtype=");
          meta::wrap_dim(in, in.integer("dim"), self.ndim());
          return meta::fresh(in, self, self.shape, self.dtype);
        },
    .decompose = [](Call& in) -> Arg {
      const Arg empty = record(all_dim, {isneginf(in["self"]), in["dim"], Arg(true)});
      return where(empty, 0.0, softmax(in["self"], in["dim"]));
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return first_grad(in, softmax_grad(softmax_backward_data, in, out, grad));
    },
};
constinit const Symbol softmax_backward_data{
    .schema =
        "_softmax_backward_data(Tensor grad_output, Tensor output, int dim, dtype input_dtype) "
        "-> Tensor",
    .torch = "torch.ops.aten._softmax_backward_data",
    .tags = kPure | kReduction,
    .meta = backward_meta,
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in.type("output").dtype);
      const Arg y = math.up(contiguous(in["output"]));
      const Arg weighted = math.up(contiguous(in["grad_output"])) * y;
      return math.down(weighted - y * sum_dim(weighted, in["dim"], true));
    },
};
constinit const Symbol log_softmax_backward_data{
    .schema =
        "_log_softmax_backward_data(Tensor grad_output, Tensor output, int dim, "
        "dtype input_dtype) -> Tensor",
    .torch = "torch.ops.aten._log_softmax_backward_data",
    .tags = kPure | kReduction,
    .meta = backward_meta,
    .decompose = [](Call& in) -> Arg {
      const Opmath math(in.type("output").dtype);
      const Arg g = math.up(contiguous(in["grad_output"]));
      const Arg total = sum_dim(g, in["dim"], true);
      return math.down(g - exp(math.up(contiguous(in["output"]))) * total);
    },
};

std::span<const Symbol* const> softmax_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SOFTMAX_OPS(X) FULMEN_SOFTMAX_BACKWARD_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
