#include "ops/pointwise.h"

#include "ops/arith.h"
#include "ops/families.h"
#include "ops/lane.h"
#include "ops/meta.h"

namespace fulmen::ops {
namespace {

constexpr uint32_t kUnary = kPure | kPointwise;
constexpr uint32_t kUnaryFloat = kPure | kPointwise | kFloatResult;

// div(rounding_mode=None) is true division; the other modes keep integers.
Arg div_meta(Call& in) {
  const Arg operands[] = {in["input"], in["other"]};
  DType dtype = meta::result_type(in, operands);
  if (!in.has("rounding_mode")) dtype = meta::float_dtype(in, dtype);
  return meta::pointwise_with(in, operands, dtype);
}

}  // namespace

constinit const Symbol add{
    .schema = "add(Tensor|Scalar input, Tensor|Scalar other, *, Scalar alpha=1) -> Tensor",
    .torch = "torch.add torch.Tensor.add torch.Tensor.__add__ torch.Tensor.__radd__ operator.add "
             "torch.Tensor.add_ torch.Tensor.__iadd__ operator.iadd",
    .tags = kUnary,
    .meta = meta::pointwise,
    .lane = Lane::kAdd,
};
constinit const Symbol sub{
    .schema = "sub(Tensor|Scalar input, Tensor|Scalar other, *, Scalar alpha=1) -> Tensor",
    .torch = "torch.sub torch.Tensor.sub torch.subtract torch.Tensor.subtract torch.Tensor.__sub__ "
             "operator.sub torch.Tensor.sub_ torch.Tensor.subtract_ torch.Tensor.__isub__ "
             "operator.isub",
    .tags = kUnary,
    .meta = meta::pointwise,
    .lane = Lane::kSub,
};
constinit const Symbol mul{
    .schema = "mul(Tensor|Scalar input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.mul torch.Tensor.mul torch.multiply torch.Tensor.multiply torch.Tensor.__mul__ "
             "torch.Tensor.__rmul__ operator.mul torch.Tensor.mul_ torch.Tensor.multiply_ "
             "torch.Tensor.__imul__ operator.imul",
    .tags = kUnary,
    .meta = meta::pointwise,
    .lane = Lane::kMul,
};
constinit const Symbol div{
    .schema = "div(Tensor|Scalar input, Tensor|Scalar other, *, str? rounding_mode=None) -> Tensor",
    .torch = "torch.div torch.Tensor.div torch.divide torch.Tensor.divide torch.true_divide "
             "torch.Tensor.true_divide torch.Tensor.__truediv__ torch.Tensor.__div__ "
             "operator.truediv torch.Tensor.div_ torch.Tensor.divide_ torch.Tensor.true_divide_ "
             "torch.Tensor.__itruediv__ torch.Tensor.__idiv__ operator.itruediv",
    .tags = kUnary,
    .meta = div_meta,
    .lane = Lane::kDiv,
};
constinit const Symbol neg{
    .schema = "neg(Tensor input) -> Tensor",
    .torch = "torch.neg torch.Tensor.neg torch.negative torch.Tensor.negative torch.Tensor.__neg__ "
             "operator.neg torch.neg_ torch.Tensor.neg_ torch.negative_ torch.Tensor.negative_",
    .tags = kUnary,
    .meta = meta::pointwise,
    .lane = Lane::kNeg,
};
constinit const Symbol exp{
    .schema = "exp(Tensor input) -> Tensor",
    .torch = "torch.exp torch.Tensor.exp torch.exp_ torch.Tensor.exp_",
    .tags = kUnaryFloat,
    .meta = meta::pointwise,
    .lane = Lane::kExp,
};
constinit const Symbol tanh{
    .schema = "tanh(Tensor input) -> Tensor",
    .torch = "torch.tanh torch.Tensor.tanh torch.nn.functional.tanh torch.tanh_ torch.Tensor.tanh_",
    .tags = kUnaryFloat,
    .meta = meta::pointwise,
    .lane = Lane::kTanh,
};
constinit const Symbol erf{
    .schema = "erf(Tensor input) -> Tensor",
    .torch = "torch.erf torch.Tensor.erf torch.special.erf torch.erf_ torch.Tensor.erf_",
    .tags = kUnaryFloat,
    .meta = meta::pointwise,
    .lane = Lane::kErf,
};
constinit const Symbol relu{
    .schema = "relu(Tensor input) -> Tensor",
    .torch = "torch.relu torch.Tensor.relu torch.relu_ torch.Tensor.relu_ "
             "torch.nn.functional.relu_",
    .tags = kUnary,
    .meta = meta::pointwise,
    .lane = Lane::kRelu,
};
constinit const Symbol gelu{
    .schema = "gelu(Tensor input, *, str approximate='none') -> Tensor",
    .torch = "torch.nn.functional.gelu torch._C._nn.gelu",
    .tags = kUnary,
    .meta = meta::pointwise,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"];
      if (in.text("approximate") == "tanh") {
        const Arg cube = mul(mul(x, x), x);
        const Arg inner = mul(add(x, mul(cube, 0.044715)), 0.7978845608028654);
        return mul(mul(x, 0.5), add(tanh(inner), 1.0));
      }
      return mul(mul(x, 0.5), add(erf(mul(x, 0.7071067811865476)), 1.0));
    },
};

std::span<const Symbol* const> pointwise_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_POINTWISE_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
