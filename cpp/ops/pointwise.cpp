#include "ops/pointwise.h"

#include "ops/arith.h"
#include "ops/bitwise.h"
#include "ops/comparison.h"
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/gradient.h"
#include "ops/lane.h"
#include "ops/power.h"
#include "ops/select.h"

namespace fulmen::ops {
namespace {

// Subtraction with a bool is an error, whatever the other operand is.
void check_subtraction(Call& in) {
  for (const Arg& a : in.args().first(2)) {
    const DType dtype = a.is_tensor() ? a.tensor()->type.dtype : meta::scalar_dtype(in, a);
    if (dtype == DType::kBool) {
      in.fail(ErrorKind::kRuntime, "bool-subtraction",
              "Subtraction, the `-` operator, with a bool tensor is not supported. If you are "
              "trying to invert a mask, use the `~` or `logical_not()` operator instead.");
    }
  }
}

// alpha must be representable in the result's dtype.
void check_alpha(Call& in) {
  const Arg operands[] = {in["input"], in["other"]};
  const DType dtype = meta::result_type(in, operands);
  const DType alpha = meta::scalar_dtype(in, in["alpha"]);
  if (alpha == DType::kBool && dtype != DType::kBool) {
    in.fail(ErrorKind::kRuntime, "alpha-dtype",
            "Boolean alpha only supported for Boolean results.");
  }
  if (is_integral(dtype) && !is_integral(alpha)) {
    in.fail(ErrorKind::kRuntime, "alpha-dtype",
            "For integral input tensors, argument alpha must not be a floating point number.");
  }
  if (is_complex(alpha) && !is_complex(dtype)) {
    in.fail(ErrorKind::kRuntime, "alpha-dtype",
            "For non-complex input tensors, argument alpha must not be a complex number.");
  }
}

template <uint8_t accept>
Arg alpha_meta(Call& in) {
  check_alpha(in);
  if (accept == meta::kNoBool) check_subtraction(in);
  return meta::elementwise(in, accept, meta::Result::kCommon);
}

Arg sub_meta(Call& in) {
  check_subtraction(in);
  return meta::elementwise(in, meta::kNoBool, meta::Result::kCommon);
}

// Iterates over (other, input).
Arg rsub_meta(Call& in) {
  check_subtraction(in);
  const Arg operands[] = {in["other"], in["input"]};
  const DType dtype = meta::result_type(in, operands);
  meta::require(in, dtype, meta::kNoBool);
  return meta::iterate(in, operands, dtype, dtype);
}

Arg rsub_alpha_meta(Call& in) {
  check_alpha(in);
  return rsub_meta(in);
}

// a ± alpha * b; ATen rounds the product too.
Arg add_scaled(Call& in, std::string_view a, std::string_view b, bool subtract) {
  const Arg operands[] = {in["input"], in["other"]};
  const DType common = meta::result_type(in, operands);
  if (common == DType::kBool) in.unsupported("the decomposition for bool");
  Arg second = in[b];
  if (second.is_tensor()) second = converted(second, common);
  second = scaled(second, in["alpha"]);
  return subtract ? in[a] - second : in[a] + second;
}

Arg div_mode_meta(Call& in) {
  if (!in.has("rounding_mode")) {
    return meta::elementwise(in, meta::kAnyDType, meta::Result::kFloat);
  }
  const std::string_view mode = in.text("rounding_mode");
  if (mode != "floor" && mode != "trunc") {
    in.fail(ErrorKind::kRuntime, "rounding-mode",
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '", mode,
            "'");
  }
  return meta::elementwise(in, meta::kNumeric, meta::Result::kCommon);
}

// op(number, tensor), where eager wraps the number as a tensor.
template <uint8_t accept>
Arg number_first_meta(Call& in) {
  const DType dtype = meta::result_type(in, in.args());
  meta::require(in, dtype, accept);
  return meta::iterate(in, in.args(), dtype, dtype);
}

// The gradient of maximum and minimum: half of it where the operands are equal.
Arg halved(Call& in, const Arg& grad) { return where(eq(in[0], in[1]), grad / 2, grad); }

}  // namespace

constinit const Symbol add{
    .schema = "add(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.add torch.Tensor.add torch.Tensor.__add__ torch.Tensor.__radd__ operator.add "
        "torch.Tensor.__iadd__ operator.iadd torch.Tensor.add_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return grad; }, [&] { return grad; });
    },
    .lane = Lane::kAdd,
};
constinit const Symbol add_alpha{
    .schema = "add.alpha(Tensor input, Tensor|Scalar other, *, Scalar alpha) -> Tensor",
    .torch = "torch.add torch.Tensor.add torch.Tensor.add_",
    .tags = kElementwise,
    .meta = alpha_meta<meta::kAnyDType>,
    .decompose = [](Call& in) -> Arg { return add_scaled(in, "input", "other", false); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return grad; }, [&] { return scaled(grad, in["alpha"]); });
    },
};
constinit const Symbol add_number_first{
    .schema = "add.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.add torch.add",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return add(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol sub{
    .schema = "sub(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.sub torch.Tensor.sub torch.subtract torch.Tensor.subtract "
        "torch.Tensor.__sub__ operator.sub torch.Tensor.__isub__ operator.isub "
        "torch.Tensor.sub_ torch.Tensor.subtract_",
    .tags = kElementwise,
    .meta = sub_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return grad; }, [&] { return -grad; });
    },
    .lane = Lane::kSub,
};
constinit const Symbol sub_alpha{
    .schema = "sub.alpha(Tensor input, Tensor|Scalar other, *, Scalar alpha) -> Tensor",
    .torch =
        "torch.sub torch.Tensor.sub torch.subtract torch.Tensor.subtract torch.Tensor.sub_ "
        "torch.Tensor.subtract_",
    .tags = kElementwise,
    .meta = alpha_meta<meta::kNoBool>,
    .decompose = [](Call& in) -> Arg { return add_scaled(in, "input", "other", true); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return grad; }, [&] { return scaled(-grad, in["alpha"]); });
    },
};
constinit const Symbol sub_number_first{
    .schema = "sub.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.sub torch.sub torch.subtract",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return rsub(in["other"], in["input"]); },
    .aten = "-",
};
// other - input
constinit const Symbol rsub{
    .schema = "rsub(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.rsub torch.Tensor.__rsub__",
    .tags = kElementwise,
    .meta = rsub_meta,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return -grad; }, [&] { return grad; });
    },
    .lane = Lane::kRsub,
};
constinit const Symbol rsub_alpha{
    .schema = "rsub.alpha(Tensor input, Tensor|Scalar other, *, Scalar alpha) -> Tensor",
    .torch = "torch.rsub",
    .tags = kElementwise,
    .meta = rsub_alpha_meta,
    .decompose = [](Call& in) -> Arg { return add_scaled(in, "other", "input", true); },
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(in, [&] { return scaled(-grad, in["alpha"]); }, [&] { return grad; });
    },
};
constinit const Symbol mul{
    .schema = "mul(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.mul torch.Tensor.mul torch.multiply torch.Tensor.multiply "
        "torch.Tensor.__mul__ torch.Tensor.__rmul__ operator.mul torch.Tensor.__imul__ "
        "operator.imul torch.Tensor.mul_ torch.Tensor.multiply_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad * conjugate(in[1]); }, [&] { return grad * conjugate(in[0]); });
    },
    .lane = Lane::kMul,
};
constinit const Symbol mul_number_first{
    .schema = "mul.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.mul torch.mul torch.multiply",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return mul(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol div{
    .schema = "div(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.div torch.Tensor.div torch.divide torch.Tensor.divide torch.true_divide "
        "torch.Tensor.true_divide torch.Tensor.__truediv__ torch.Tensor.__div__ "
        "operator.truediv torch.Tensor.__itruediv__ torch.Tensor.__idiv__ operator.itruediv "
        "torch.Tensor.div_ torch.Tensor.divide_ torch.Tensor.true_divide_",
    .tags = kElementwise | kFloatResult | kKeepsOperands,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kFloat>,
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad / conjugate(in[1]); },
          [&] { return -grad * conjugate(out / in[1]); });
    },
    .lane = Lane::kDiv,
};
constinit const Symbol div_mode{
    .schema = "div.mode(Tensor input, Tensor|Scalar other, *, str? rounding_mode) -> Tensor",
    .torch =
        "torch.div torch.Tensor.div torch.divide torch.Tensor.divide torch.Tensor.div_ "
        "torch.Tensor.divide_",
    .tags = kElementwise,
    .meta = div_mode_meta,
    .decompose = [](Call& in) -> Arg {
      const Arg x = in["input"], y = in["other"];
      if (!in.has("rounding_mode")) return div(x, y);
      if (in.text("rounding_mode") == "floor") return floor_divide(x, y);
      const Arg operands[] = {x, y};
      if (!is_integral(meta::result_type(in, operands))) return trunc(div(x, y));
      // x - fmod(x, y) is a multiple of y.
      const Arg wide = converted(x, meta::result_type(in, operands));
      return floor_divide(wide - fmod(wide, y), y);
    },
    .vjp = [](Call& in, const Arg& out, const Arg& grad) -> Args {
      if (in.has("rounding_mode")) return zero_vjp(in, out, grad);
      return operand_grads(in, [&] { return grad / in[1]; }, [&] { return -grad * (out / in[1]); });
    },
};
// other / input, as eager computes it.
constinit const Symbol rdiv{
    .schema = "rdiv(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rtruediv__ torch.Tensor.__rdiv__",
    .tags = kElementwise | kFloatResult,
    .decompose = [](Call& in) -> Arg { return reciprocal(in["input"]) * in["other"]; },
    .aten = "-",
};
constinit const Symbol div_number_first{
    .schema = "div.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.truediv torch.div torch.divide torch.true_divide",
    .tags = kElementwise | kFloatResult,
    .decompose = [](Call& in) -> Arg { return rdiv(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol floor_divide{
    .schema = "floor_divide(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.floor_divide torch.Tensor.floor_divide torch.Tensor.__floordiv__ "
        "operator.floordiv torch.Tensor.__ifloordiv__ operator.ifloordiv "
        "torch.Tensor.floor_divide_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .lane = Lane::kFloorDiv,
};
constinit const Symbol floor_divide_number_first{
    .schema = "floor_divide.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.floordiv torch.floor_divide",
    .tags = kElementwise,
    .meta = number_first_meta<meta::kNumeric>,
    .aten = "-",
};
constinit const Symbol rfloordiv{
    .schema = "rfloordiv(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rfloordiv__",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg {
      const Arg other = in["other"];
      if (other.is_tensor()) return floor_divide(other, in["input"]);
      return floor_divide_number_first(other, in["input"]);
    },
    .aten = "-",
};
constinit const Symbol remainder{
    .schema = "remainder(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.remainder torch.Tensor.remainder torch.Tensor.__mod__ operator.mod "
        "torch.Tensor.__imod__ operator.imod torch.Tensor.remainder_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad; },
          [&] { return -grad * record(div_mode, {in[0], in[1], Arg("floor")}); });
    },
    .lane = Lane::kRemainder,
};
constinit const Symbol remainder_number_first{
    .schema = "remainder.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.remainder operator.mod",
    .tags = kElementwise,
    .meta = number_first_meta<meta::kNumeric>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      const Arg number = scalar_tensor_like(in.builder(), in[0], in[1].tensor()->type);
      return grads(in, {Arg(), -grad * record(div_mode, {number, in[1], Arg("floor")})});
    },
    .lane = Lane::kRemainder,
};
constinit const Symbol rmod{
    .schema = "rmod(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rmod__",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg {
      const Arg other = in["other"];
      if (other.is_tensor()) return remainder(other, in["input"]);
      return remainder_number_first(other, in["input"]);
    },
    .aten = "remainder(other, input)",
};
constinit const Symbol fmod{
    .schema = "fmod(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.fmod torch.Tensor.fmod torch.Tensor.fmod_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kNumeric, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return grad; },
          [&] { return -grad * record(div_mode, {in[0], in[1], Arg("trunc")}); });
    },
    .lane = Lane::kFmod,
};
constinit const Symbol maximum{
    .schema = "maximum(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.maximum torch.Tensor.maximum",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return zero_where(lt(in[0], in[1]), halved(in, grad)); },
          [&] { return zero_where(gt(in[0], in[1]), halved(in, grad)); });
    },
    .lane = Lane::kMaximum,
};
constinit const Symbol minimum{
    .schema = "minimum(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.minimum torch.Tensor.minimum",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return zero_where(gt(in[0], in[1]), halved(in, grad)); },
          [&] { return zero_where(lt(in[0], in[1]), halved(in, grad)); });
    },
    .lane = Lane::kMinimum,
};
constinit const Symbol fmax{
    .schema = "fmax(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.fmax torch.Tensor.fmax",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return where(logical_or(ge(in[0], in[1]), isnan(in[1])), grad, 0.0); },
          [&] { return zero_where(logical_or(ge(in[0], in[1]), isnan(in[1])), grad); });
    },
    .lane = Lane::kFmax,
};
constinit const Symbol fmin{
    .schema = "fmin(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.fmin torch.Tensor.fmin",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kReals, meta::Result::kCommon>,
    .vjp = [](Call& in, const Arg&, const Arg& grad) -> Args {
      return operand_grads(
          in, [&] { return where(logical_or(le(in[0], in[1]), isnan(in[1])), grad, 0.0); },
          [&] { return zero_where(logical_or(le(in[0], in[1]), isnan(in[1])), grad); });
    },
    .lane = Lane::kFmin,
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
