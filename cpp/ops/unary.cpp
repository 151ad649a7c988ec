#include "ops/unary.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/power.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

// Eager returns the argument itself.
template <uint8_t accept>
Arg itself(Call& in) {
  meta::require(in, in.type("input").dtype, accept);
  return in[0];
}

// Eager writes into a tensor like the input.
template <uint8_t accept>
Arg preserved(Call& in, std::optional<DType> dtype = {}) {
  meta::require(in, in.type("input").dtype, accept);
  return meta::like(in, dtype);
}

// pow(x, 2): bool becomes int64.
Arg square_meta(Call& in) {
  const Arg promoted[] = {in[0], Arg(2)};
  const DType dtype = meta::result_type(in, promoted);
  meta::require(in, dtype, meta::kAnyDType);
  return meta::iterate(in, {&in[0], 1}, dtype, dtype);
}

Arg conj_meta(Call& in) {
  if (!is_complex(in.type("input").dtype)) return in[0];
  return preserved<meta::kComplexes>(in);
}

Arg abs_meta(Call& in) {
  const DType own = in.type("input").dtype;
  if (is_complex(own)) return preserved<meta::kComplexes>(in, real_dtype(own));
  return meta::elementwise(in, meta::kNoBool, meta::Result::kCommon);
}

// Integers are never infinite: eager fills a tensor like the input.
template <uint8_t accept>
Arg predicate_meta(Call& in) {
  if (is_integral(in.type("input").dtype)) return preserved<meta::kIntegers>(in, DType::kBool);
  return meta::elementwise(in, accept, meta::Result::kBool);
}

Arg scale_meta(Call& in) {
  return preserved<meta::kReals>(in, meta::float_dtype(in, in.type("input").dtype));
}

}  // namespace

constinit const Symbol abs{
    .schema = "abs(Tensor input) -> Tensor",
    .torch =
        "torch.abs torch.Tensor.abs torch.absolute torch.Tensor.absolute "
        "torch.Tensor.__abs__ torch.abs_ torch.Tensor.abs_ torch.Tensor.absolute_",
    .tags = kElementwise,
    .meta = abs_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * sgn(in[0])});
    },
    .lane = Lane::kAbs,
};
constinit const Symbol neg{
    .schema = "neg(Tensor input) -> Tensor",
    .torch =
        "torch.neg torch.Tensor.neg torch.negative torch.Tensor.negative "
        "torch.Tensor.__neg__ operator.neg torch.neg_ torch.Tensor.neg_ torch.negative_ "
        "torch.Tensor.negative_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNoBool, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args { return grads(in, {-grad}); },
    .lane = Lane::kNeg,
};
constinit const Symbol positive{
    .schema = "positive(Tensor input) -> Tensor",
    .torch = "torch.positive torch.Tensor.positive torch.Tensor.__pos__ operator.pos",
    .tags = kElementwise,
    .meta = itself<meta::kNoBool>,
};
constinit const Symbol reciprocal{
    .schema = "reciprocal(Tensor input) -> Tensor",
    .torch = "torch.reciprocal torch.Tensor.reciprocal torch.reciprocal_ torch.Tensor.reciprocal_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {-grad * conjugate(out * out)});
    },
    .lane = Lane::kReciprocal,
};
constinit const Symbol square{
    .schema = "square(Tensor input) -> Tensor",
    .torch = "torch.square torch.Tensor.square torch.square_ torch.Tensor.square_",
    .tags = kElementwise,
    .meta = square_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg promoted[] = {in[0], Arg(2)};
      const Arg x = converted(in[0], meta::result_type(in, promoted));
      return x * x;
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(in[0] * 2)});
    },
};
constinit const Symbol sqrt{
    .schema = "sqrt(Tensor input) -> Tensor",
    .torch = "torch.sqrt torch.Tensor.sqrt torch.sqrt_ torch.Tensor.sqrt_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad / (conjugate(out) * 2)});
    },
    .lane = Lane::kSqrt,
};
constinit const Symbol rsqrt{
    .schema = "rsqrt(Tensor input) -> Tensor",
    .torch = "torch.rsqrt torch.Tensor.rsqrt torch.rsqrt_ torch.Tensor.rsqrt_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * -0.5 * conjugate(pow(out, 3))});
    },
    .lane = Lane::kRsqrt,
};
constinit const Symbol exp{
    .schema = "exp(Tensor input) -> Tensor",
    .torch = "torch.exp torch.Tensor.exp torch.exp_ torch.Tensor.exp_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(out)});
    },
    .lane = Lane::kExp,
};
constinit const Symbol exp2{
    .schema = "exp2(Tensor input) -> Tensor",
    .torch = "torch.exp2 torch.Tensor.exp2 torch.special.exp2 torch.exp2_ torch.Tensor.exp2_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * conjugate(out) * 0.6931471805599453});
    },
    .lane = Lane::kExp2,
};
constinit const Symbol expm1{
    .schema = "expm1(Tensor input) -> Tensor",
    .torch = "torch.expm1 torch.Tensor.expm1 torch.special.expm1 torch.expm1_ torch.Tensor.expm1_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {grad * (conjugate(out) + 1)});
    },
    .lane = Lane::kExpm1,
};
constinit const Symbol log{
    .schema = "log(Tensor input) -> Tensor",
    .torch = "torch.log torch.Tensor.log torch.log_ torch.Tensor.log_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / conjugate(in[0])});
    },
    .lane = Lane::kLog,
};
constinit const Symbol log2{
    .schema = "log2(Tensor input) -> Tensor",
    .torch = "torch.log2 torch.Tensor.log2 torch.log2_ torch.Tensor.log2_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / (conjugate(in[0]) * 0.6931471805599453)});
    },
    .lane = Lane::kLog2,
};
constinit const Symbol log10{
    .schema = "log10(Tensor input) -> Tensor",
    .torch = "torch.log10 torch.Tensor.log10 torch.log10_ torch.Tensor.log10_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / (conjugate(in[0]) * 2.3025850929940456)});
    },
    .lane = Lane::kLog10,
};
constinit const Symbol log1p{
    .schema = "log1p(Tensor input) -> Tensor",
    .torch = "torch.log1p torch.Tensor.log1p torch.special.log1p torch.log1p_ torch.Tensor.log1p_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {grad / conjugate(in[0] + 1)});
    },
    .lane = Lane::kLog1p,
};
constinit const Symbol sigmoid{
    .schema = "sigmoid(Tensor input) -> Tensor",
    .torch =
        "torch.sigmoid torch.Tensor.sigmoid torch.nn.functional.sigmoid torch.special.expit "
        "torch.sigmoid_ torch.Tensor.sigmoid_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return grads(in, {sigmoid_backward(grad, out)});
    },
    .lane = Lane::kSigmoid,
};
constinit const Symbol logit{
    .schema = "logit(Tensor input, float? eps=None) -> Tensor",
    .torch = "torch.logit torch.Tensor.logit torch.special.logit torch.logit_ torch.Tensor.logit_",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kFloat>,
    .decompose = [](Call& in) -> Arg {
      Arg x = converted(in[0], meta::float_dtype(in, in.type("input").dtype));
      if (in.has("eps")) {
        const double eps = in.real("eps");
        x = clamp_max(clamp_min(x, eps), 1.0 - eps);
      }
      return log(div(x, 1.0 - x));
    },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {logit_backward(grad, in[0], in["eps"])});
    },
};
constinit const Symbol ceil{
    .schema = "ceil(Tensor input) -> Tensor",
    .torch = "torch.ceil torch.Tensor.ceil torch.ceil_ torch.Tensor.ceil_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = zero_vjp,
    .lane = Lane::kCeil,
};
constinit const Symbol floor{
    .schema = "floor(Tensor input) -> Tensor",
    .torch = "torch.floor torch.Tensor.floor torch.floor_ torch.Tensor.floor_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = zero_vjp,
    .lane = Lane::kFloor,
};
constinit const Symbol round{
    .schema = "round(Tensor input) -> Tensor",
    .torch = "torch.round torch.Tensor.round torch.special.round torch.round_ torch.Tensor.round_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = zero_vjp,
    .lane = Lane::kRound,
};
constinit const Symbol round_decimals{
    .schema = "round.decimals(Tensor input, *, int decimals) -> Tensor",
    .torch = "torch.round torch.Tensor.round torch.special.round torch.round_ torch.Tensor.round_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = zero_vjp,
};
constinit const Symbol trunc{
    .schema = "trunc(Tensor input) -> Tensor",
    .torch =
        "torch.trunc torch.Tensor.trunc torch.fix torch.Tensor.fix torch.trunc_ "
        "torch.Tensor.trunc_ torch.fix_ torch.Tensor.fix_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = zero_vjp,
    .lane = Lane::kTrunc,
};
constinit const Symbol frac{
    .schema = "frac(Tensor input) -> Tensor",
    .torch = "torch.frac torch.Tensor.frac torch.frac_ torch.Tensor.frac_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kFloats, meta::Result::kCommon>,
    .vjp = pass_vjp,
    .lane = Lane::kFrac,
};
constinit const Symbol sign{
    .schema = "sign(Tensor input) -> Tensor",
    .torch = "torch.sign torch.Tensor.sign torch.Tensor.sign_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .vjp = zero_vjp,
    .lane = Lane::kSign,
};
constinit const Symbol sgn{
    .schema = "sgn(Tensor input) -> Tensor",
    .torch = "torch.sgn torch.Tensor.sgn torch.Tensor.sgn_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return zero_vjp(in, out, real_grad(in, grad));
    },
    .lane = Lane::kSign,
};
constinit const Symbol signbit{
    .schema = "signbit(Tensor input) -> Tensor",
    .torch = "torch.signbit torch.Tensor.signbit",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
    .lane = Lane::kSignbit,
};
constinit const Symbol isnan{
    .schema = "isnan(Tensor input) -> Tensor",
    .torch = "torch.isnan torch.Tensor.isnan",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kIsNan,
};
constinit const Symbol isinf{
    .schema = "isinf(Tensor input) -> Tensor",
    .torch = "torch.isinf torch.Tensor.isinf",
    .tags = kElementwise,
    .meta = predicate_meta<meta::kFloats>,
    .lane = Lane::kIsInf,
};
constinit const Symbol isfinite{
    .schema = "isfinite(Tensor input) -> Tensor",
    .torch = "torch.isfinite torch.Tensor.isfinite",
    .tags = kElementwise,
    .meta = predicate_meta<meta::kInexact>,
    .lane = Lane::kIsFinite,
};
constinit const Symbol isposinf{
    .schema = "isposinf(Tensor input) -> Tensor",
    .torch = "torch.isposinf torch.Tensor.isposinf",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
};
constinit const Symbol isneginf{
    .schema = "isneginf(Tensor input) -> Tensor",
    .torch = "torch.isneginf torch.Tensor.isneginf",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
};
constinit const Symbol isreal{
    .schema = "isreal(Tensor input) -> Tensor",
    .torch = "torch.isreal torch.Tensor.isreal",
    .tags = kElementwise,
    .meta = [](Call& in) -> Arg { return preserved<meta::kReals>(in, DType::kBool); },
};
constinit const Symbol nan_to_num{
    .schema =
        "nan_to_num(Tensor input, float? nan=None, float? posinf=None, float? neginf=None) "
        "-> Tensor",
    .torch = "torch.nan_to_num torch.Tensor.nan_to_num torch.nan_to_num_ torch.Tensor.nan_to_num_",
    .tags = kElementwise,
    .meta = [](Call& in) -> Arg { return preserved<meta::kAnyDType>(in); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * isfinite(in[0]));
    },
};
constinit const Symbol deg2rad{
    .schema = "deg2rad(Tensor input) -> Tensor",
    .torch = "torch.deg2rad torch.Tensor.deg2rad torch.deg2rad_ torch.Tensor.deg2rad_",
    .tags = kElementwise | kFloatResult,
    .meta = scale_meta,
    .decompose = [](Call& in) -> Arg { return in[0] * 0.017453292519943295; },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * 0.017453292519943295);
    },
};
constinit const Symbol rad2deg{
    .schema = "rad2deg(Tensor input) -> Tensor",
    .torch = "torch.rad2deg torch.Tensor.rad2deg torch.rad2deg_ torch.Tensor.rad2deg_",
    .tags = kElementwise | kFloatResult,
    .meta = scale_meta,
    .decompose = [](Call& in) -> Arg { return in[0] * 57.29577951308232; },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return first_grad(in, grad * 57.29577951308232);
    },
};
constinit const Symbol angle{
    .schema = "angle(Tensor input) -> Tensor",
    .torch = "torch.angle torch.Tensor.angle",
    .tags = kElementwise | kFloatResult,
    .meta = meta::elementwise<meta::kReals, meta::Result::kRealFloat>,
    .vjp = zero_vjp,
};
constinit const Symbol conj_physical{
    .schema = "conj_physical(Tensor input) -> Tensor",
    .torch =
        "torch.conj_physical torch.Tensor.conj_physical torch.conj_physical_ "
        "torch.Tensor.conj_physical_",
    .tags = kElementwise,
    .meta = conj_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return grads(in, {conj_physical(grad)});
    },
};
// Of real tensors, eager returns the argument itself; complex views are left to PyTorch.
constinit const Symbol conj{
    .schema = "conj(Tensor input) -> Tensor",
    .torch = "torch.conj torch.Tensor.conj",
    .tags = kPure | kView,
    .meta = itself<meta::kReals>,
};
constinit const Symbol resolve_conj{
    .schema = "resolve_conj(Tensor input) -> Tensor",
    .torch = "torch.resolve_conj torch.Tensor.resolve_conj",
    .tags = kPure | kView,
    .meta = itself<meta::kReals>,
};
constinit const Symbol resolve_neg{
    .schema = "resolve_neg(Tensor input) -> Tensor",
    .torch = "torch.resolve_neg torch.Tensor.resolve_neg",
    .tags = kPure | kView,
    .meta = itself<meta::kReals>,
};
constinit const Symbol logical_not{
    .schema = "logical_not(Tensor input) -> Tensor",
    .torch = "torch.logical_not torch.Tensor.logical_not torch.Tensor.logical_not_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kLogicalNot,
};
constinit const Symbol bitwise_not{
    .schema = "bitwise_not(Tensor input) -> Tensor",
    .torch =
        "torch.bitwise_not torch.Tensor.bitwise_not torch.Tensor.__invert__ operator.invert "
        "torch.Tensor.bitwise_not_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kIntegers, meta::Result::kCommon>,
    .lane = Lane::kBitNot,
};
// The conversion that decompositions record.
constinit const Symbol convert{
    .schema = "_to_copy(Tensor input, *, dtype dtype) -> Tensor",
    .torch = "torch.ops.aten._to_copy",
    .tags = kElementwise,
    .meta = [](Call& in) -> Arg { return meta::like(in, in.dtype("dtype")); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      const TensorType& t = in.type("input");
      return grads(in, {converted(real_if(t, grad), t.dtype)});
    },
    .lane = Lane::kConvert,
};

std::span<const Symbol* const> unary_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_UNARY_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
