#include "ops/prologue.h"

#include "ops/families.h"

namespace fulmen::ops {

constinit const Symbol check_tensor{
    .schema =
        "check_tensor(Tensor input, int[]? size=None, int[]? stride=None, dtype? dtype=None, "
        "*, device? device=None) -> None",
    .torch = "torch._assert_tensor_metadata",
    .tags = kEffect | kNonDifferentiable,
    .meta = [](Call&) -> Arg { return {}; },
    .aten = "_assert_tensor_metadata",
};

void record_check(Builder& builder, const TensorProxy& input) {
  Call call(check_tensor, {}, builder);
  const Arg args[] = {Arg(&input), call.dims_arg(input.type.shape),
                      call.dims_arg(input.type.strides), Arg(input.type.dtype),
                      Arg(input.type.device)};
  builder.call(check_tensor, args);
}

std::span<const Symbol* const> prologue_family() {
  static constexpr const Symbol* kRows[] = {&check_tensor};
  return kRows;
}

}  // namespace fulmen::ops
