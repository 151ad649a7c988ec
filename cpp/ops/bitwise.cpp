#include "ops/bitwise.h"

#include "ops/arith.h"
#include "ops/elementwise.h"
#include "ops/families.h"
#include "ops/lane.h"

namespace fulmen::ops {
namespace {

Arg number_first_meta(Call& in) {
  const DType dtype = meta::result_type(in, in.args());
  meta::require(in, dtype, meta::kInts);
  return meta::iterate(in, in.args(), dtype, dtype);
}

}  // namespace

constinit const Symbol bitwise_and{
    .schema = "bitwise_and(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.bitwise_and torch.Tensor.bitwise_and torch.Tensor.__and__ "
        "torch.Tensor.__rand__ operator.and_ torch.Tensor.__iand__ operator.iand "
        "torch.Tensor.bitwise_and_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kIntegers, meta::Result::kCommon>,
    .lane = Lane::kBitAnd,
};
constinit const Symbol bitwise_and_number_first{
    .schema = "bitwise_and.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.bitwise_and operator.and_",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return bitwise_and(in["other"], in["input"]); },
};
constinit const Symbol bitwise_or{
    .schema = "bitwise_or(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.bitwise_or torch.Tensor.bitwise_or torch.Tensor.__or__ torch.Tensor.__ror__ "
        "operator.or_ torch.Tensor.__ior__ operator.ior torch.Tensor.bitwise_or_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kIntegers, meta::Result::kCommon>,
    .lane = Lane::kBitOr,
};
constinit const Symbol bitwise_or_number_first{
    .schema = "bitwise_or.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.bitwise_or operator.or_",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return bitwise_or(in["other"], in["input"]); },
};
constinit const Symbol bitwise_xor{
    .schema = "bitwise_xor(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.bitwise_xor torch.Tensor.bitwise_xor torch.Tensor.__xor__ "
        "torch.Tensor.__rxor__ operator.xor torch.Tensor.__ixor__ operator.ixor "
        "torch.Tensor.bitwise_xor_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kIntegers, meta::Result::kCommon>,
    .lane = Lane::kBitXor,
};
constinit const Symbol bitwise_xor_number_first{
    .schema = "bitwise_xor.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.bitwise_xor operator.xor",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg { return bitwise_xor(in["other"], in["input"]); },
};
constinit const Symbol bitwise_left_shift{
    .schema = "bitwise_left_shift(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.bitwise_left_shift torch.Tensor.bitwise_left_shift torch.Tensor.__lshift__ "
        "operator.lshift torch.Tensor.__ilshift__ operator.ilshift "
        "torch.Tensor.bitwise_left_shift_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInts, meta::Result::kCommon>,
    .lane = Lane::kShiftLeft,
};
constinit const Symbol bitwise_left_shift_number_first{
    .schema = "bitwise_left_shift.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.bitwise_left_shift operator.lshift",
    .tags = kElementwise,
    .meta = number_first_meta,
    .lane = Lane::kShiftLeft,
};
constinit const Symbol rlshift{
    .schema = "rlshift(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rlshift__",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg {
      const Arg other = in["other"];
      if (other.is_tensor()) return bitwise_left_shift(other, in["input"]);
      return bitwise_left_shift_number_first(other, in["input"]);
    },
    .aten = "bitwise_left_shift(other, input)",
};
constinit const Symbol bitwise_right_shift{
    .schema = "bitwise_right_shift(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch =
        "torch.bitwise_right_shift torch.Tensor.bitwise_right_shift torch.Tensor.__rshift__ "
        "operator.rshift torch.Tensor.__irshift__ operator.irshift "
        "torch.Tensor.bitwise_right_shift_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kInts, meta::Result::kCommon>,
    .lane = Lane::kShiftRight,
};
constinit const Symbol bitwise_right_shift_number_first{
    .schema = "bitwise_right_shift.Scalar_Tensor(Scalar input, Tensor other) -> Tensor",
    .torch = "torch.bitwise_right_shift operator.rshift",
    .tags = kElementwise,
    .meta = number_first_meta,
    .lane = Lane::kShiftRight,
};
constinit const Symbol rrshift{
    .schema = "rrshift(Tensor input, Tensor|Scalar other) -> Tensor",
    .torch = "torch.Tensor.__rrshift__",
    .tags = kElementwise,
    .decompose = [](Call& in) -> Arg {
      const Arg other = in["other"];
      if (other.is_tensor()) return bitwise_right_shift(other, in["input"]);
      return bitwise_right_shift_number_first(other, in["input"]);
    },
    .aten = "bitwise_right_shift(other, input)",
};
constinit const Symbol logical_and{
    .schema = "logical_and(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.logical_and torch.Tensor.logical_and torch.Tensor.logical_and_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kLogicalAnd,
};
constinit const Symbol logical_or{
    .schema = "logical_or(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.logical_or torch.Tensor.logical_or torch.Tensor.logical_or_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kLogicalOr,
};
constinit const Symbol logical_xor{
    .schema = "logical_xor(Tensor input, Tensor other) -> Tensor",
    .torch = "torch.logical_xor torch.Tensor.logical_xor torch.Tensor.logical_xor_",
    .tags = kElementwise,
    .meta = meta::elementwise<meta::kAnyDType, meta::Result::kBool>,
    .lane = Lane::kLogicalXor,
};

std::span<const Symbol* const> bitwise_family() {
  static constexpr const Symbol* kRows[] = {
#define X(name) &name,
      FULMEN_BITWISE_OPS(X)
#undef X
  };
  return kRows;
}

}  // namespace fulmen::ops
