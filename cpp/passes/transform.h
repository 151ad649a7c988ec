#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "passes/pass.h"

namespace fulmen {

// The three programs of one compilation: guards and unpacking, the tensors' work, write-backs.
struct TraceTriple {
  Trace prologue, computation, epilogue;
};

// A user's change of the program. Hooks default to no change; what they return is verified, and a
// broken trace is the user's error, which names the transform.
struct Transform {
  virtual ~Transform() = default;
  virtual std::string_view name() const = 0;
  // Before the prologue is final, so that a transform may change what the computation takes.
  virtual TraceTriple transform_traces_pre_prologue(const TraceTriple& traces) { return traces; }
  virtual Trace transform_trace_post_optimization(const Trace& trace) { return trace; }
};

using Transforms = std::vector<std::shared_ptr<Transform>>;

// Both keep each changed trace as a stage. Throw UserError "broken-transform".
TraceTriple apply_pre_prologue(const Transforms& transforms, TraceTriple traces, PassContext& ctx);
Trace apply_post_optimization(const Transforms& transforms, Trace trace, PassContext& ctx);

}  // namespace fulmen
