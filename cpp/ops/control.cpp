#include "ops/control.h"

#include "ir/control.h"
#include "ir/trace.h"
#include "ops/families.h"
#include "ops/meta.h"

namespace fulmen::ops {

// See docs/autodiff.md.
constinit const Symbol differentiable{
    .schema = "differentiable(any forward, any backward, any primal, any[] inputs) -> any",
    .torch = "fulmen.autograd.differentiable",
    .meta = [](Call& in) -> Arg {
      if (in["forward"].kind() != Arg::Kind::kProgram) in.unsupported("a forward of no program");
      Args results;
      for (const Arg& result : in["forward"].program()->output.items()[0].items()) {
        results.push_back(in.make(result.tensor()->type));
      }
      return in.tuple(results);
    },
    .aten = "-",
};

constinit const Symbol gradients{
    .schema =
        "gradients(any outputs, any seeds, any inputs, bool retain_graph=False, any earlier=None)"
        " -> any",
    .torch = "fulmen.autograd.gradients",
    .tags = kNonDifferentiable,
    .meta = [](Call& in) -> Arg {
      Args results;
      for (const Arg& input : in["inputs"].items()) {
        TensorType type = input.tensor()->type;
        type.requires_grad = false;
        // As AccumulateGrad keeps them: in the layout of the tensor, where that is dense.
        if (!meta::is_non_overlapping_and_dense(type))
          type.strides = contiguous_strides(type.shape);
        results.push_back(in.make(type));
      }
      return in.tuple(results);
    },
    .aten = "-",
};

constinit const Symbol backward_begins{
    .schema = "backward_begins() -> ()",
    .torch = "fulmen.autograd.backward_begins",
    .meta = [](Call&) -> Arg { return {}; },
    .aten = "-",
};

constinit const Symbol freed{
    .schema = "freed(Tensor input) -> Tensor",
    .torch = "fulmen.autograd.freed",
    .meta = [](Call& in) -> Arg {
      TensorType type = in["input"].tensor()->type;
      type.requires_grad = true;
      return in.make(type);
    },
    .aten = "-",
};

constinit const Symbol check_leaves{
    .schema = "check_leaves(any leaves) -> ()",
    .torch = "fulmen.autograd.check_leaves",
    .tags = kEffect,
    .meta = [](Call&) -> Arg { return {}; },
    .aten = "-",
};

std::span<const Symbol* const> control_family() {
  static constexpr const Symbol* kRows[] = {&del_last_used,   &differentiable, &gradients,
                                            &backward_begins, &freed,          &check_leaves};
  return kRows;
}

}  // namespace fulmen::ops
