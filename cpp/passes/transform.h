#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "passes/pass.h"
#include "passes/phases.h"

namespace fulmen::passes {

// A user's change of the program. The defaults change nothing; what a hook returns is verified, and
// a broken trace is the user's error, which names the transform.
struct Transform {
  virtual ~Transform() = default;
  virtual std::string_view name() const = 0;
  virtual Phases transform_traces_pre_prologue(const Phases& phases) { return phases; }
  virtual Trace transform_trace_post_optimization(const Trace& trace) { return trace; }
};

using Transforms = std::vector<std::shared_ptr<Transform>>;

// One user's change, verified and kept as a stage. Both throw UserError "broken-transform".
Trace apply_pre_prologue(const Transforms& transforms, const Trace& trace, PassContext& ctx);
Trace apply_post_optimization(const Transforms& transforms, const Trace& trace, PassContext& ctx);

}  // namespace fulmen::passes
