#include "ops/control.h"

#include "ir/control.h"
#include "ir/trace.h"
#include "ops/families.h"

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

std::span<const Symbol* const> control_family() {
  static constexpr const Symbol* kRows[] = {&del_last_used, &differentiable};
  return kRows;
}

}  // namespace fulmen::ops
