#include "ops/softmax.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/ordering.h"
#include "ops/reduction.h"
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

Arg input_grad(Call& in, const Arg& grad) { return converted(grad, in.type("input").dtype); }

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
      Opmath math(out.tensor()->type.dtype);
      const Arg y = math.up(out), weighted = math.up(grad) * y;
      const Arg g = math.down(weighted - y * sum_dim(weighted, in["dim"], true));
      return first_grad(in, input_grad(in, g));
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
      Opmath math(out.tensor()->type.dtype);
      const Arg g = math.up(grad), total = sum_dim(g, in["dim"], true);
      return first_grad(in, input_grad(in, math.down(g - exp(math.up(out)) * total)));
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

std::span<const Symbol* const> softmax_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_SOFTMAX_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
