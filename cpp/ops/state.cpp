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

// The same for inference mode. As in PyTorch, it sets the grad mode as well.
constinit const Symbol set_inference_mode{
    .schema = "set_inference_mode(bool enabled) -> ()",
    .torch = "fulmen.modes.set_inference_mode",
    .tags = kEffect,
    .meta = [](Call& in) -> Arg {
      in.builder().inference_mode = in.flag("enabled");
      in.builder().grad_enabled = !in.flag("enabled");
      return {};
    },
    .aten = "-",
};

const BoundSymbol* grad_mode_change(TraceContext& ctx, bool enabled,
                                    decltype(BoundSymbol::source) source) {
  const Arg args[] = {Arg(enabled)};
  return ctx.make_bound_symbol(set_grad_enabled, args, Arg(), source);
}

std::span<const Symbol* const> state_family() {
  static constexpr const Symbol* kRows[] = {&set_grad_enabled, &set_inference_mode};
  return kRows;
}

}  // namespace fulmen::ops
