#include "ops/comparison.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/lane.h"

namespace fulmen::ops {
namespace {

Arg isclose_meta(Call& in) {
  const DType dtype = in.type("input").dtype;
  if (dtype != in.type("other").dtype) {
    in.fail(ErrorKind::kRuntime, "dtype-mismatch", name(dtype), " did not match ",
            name(in.type("other").dtype));
  }
  if (in.real("rtol") < 0 || in.real("atol") < 0) in.unsupported("a negative tolerance");
  meta::require(in, dtype, meta::kAnyDType);
  return meta::iterate(in, {&in[0], 2}, dtype, DType::kBool);
}

}  // namespace

constinit const Symbol eq{
    .schema = "eq(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.eq torch.Tensor.eq torch.Tensor.__eq__ operator.eq torch.Tensor.eq_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kEq,
};
constinit const Symbol eq_number_first{
    .schema = "eq.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.eq",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return eq(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol ne{
    .schema = "ne(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.ne torch.Tensor.ne torch.not_equal torch.Tensor.not_equal torch.Tensor.__ne__ "
        "operator.ne torch.Tensor.ne_ torch.Tensor.not_equal_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kNe,
};
constinit const Symbol ne_number_first{
    .schema = "ne.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.ne",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return ne(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol lt{
    .schema = "lt(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.lt torch.Tensor.lt torch.less torch.Tensor.less torch.Tensor.__lt__ "
        "operator.lt torch.Tensor.lt_ torch.Tensor.less_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
    .lane = Lane::kLt,
};
constinit const Symbol lt_number_first{
    .schema = "lt.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.lt",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return gt(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol le{
    .schema = "le(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.le torch.Tensor.le torch.less_equal torch.Tensor.less_equal "
        "torch.Tensor.__le__ operator.le torch.Tensor.le_ torch.Tensor.less_equal_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
    .lane = Lane::kLe,
};
constinit const Symbol le_number_first{
    .schema = "le.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.le",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return ge(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol gt{
    .schema = "gt(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.gt torch.Tensor.gt torch.greater torch.Tensor.greater torch.Tensor.__gt__ "
        "operator.gt torch.Tensor.gt_ torch.Tensor.greater_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
    .lane = Lane::kGt,
};
constinit const Symbol gt_number_first{
    .schema = "gt.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.gt",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return lt(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol ge{
    .schema = "ge(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.ge torch.Tensor.ge torch.greater_equal torch.Tensor.greater_equal "
        "torch.Tensor.__ge__ operator.ge torch.Tensor.ge_ torch.Tensor.greater_equal_",
    .tags = kElementwise | kNonDifferentiable,
    .meta = meta::elementwise<meta::kReals, meta::Result::kBool>,
    .lane = Lane::kGe,
};
constinit const Symbol ge_number_first{
    .schema = "ge.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "operator.ge",
    .tags = kElementwise | kNonDifferentiable,
    .decompose = [](Call& in) -> Arg { return le(in["other"], in["input"]); },
    .aten = "-",
};
constinit const Symbol isclose{
    .schema =
        "isclose(Tensor input, Tensor other, float rtol=1e-05, float atol=1e-08, bool "
        "equal_nan=False) -> Tensor",
    .torch = "torch.isclose torch.Tensor.isclose",
    .tags = kElementwise | kNonDifferentiable,
    .meta = isclose_meta,
};

std::span<const Symbol* const> comparison_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_COMPARISON_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
