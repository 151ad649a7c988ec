#include "ops/state.h"

#include "ir/builder.h"
#include "ops/families.h"

namespace fulmen::ops {

// Changes what is recorded after it, and the mode in which the program runs from there on.
constinit const Symbol set_grad_enabled{
    .schema = "set_grad_enabled(bool enabled) -> ()",
    .torch = "torch._C._set_grad_enabled",
    .tags = kEffect,
    .meta = [](Call& in) -> Arg {
      in.builder().grad_enabled = in.flag("enabled");
      return {};
    },
    .aten = "-",
};

std::span<const Symbol* const> state_family() {
  static constexpr const Symbol* kRows[] = {&set_grad_enabled};
  return kRows;
}

}  // namespace fulmen::ops
