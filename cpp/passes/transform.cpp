#include "passes/transform.h"

#include "support/cat.h"
#include "support/error.h"

namespace fulmen::passes {
namespace {

[[noreturn]] void broken(const Transform& transform, std::string_view problem) {
  throw UserError(ErrorKind::kValue, "broken-transform",
                  cat("transform ", transform.name(), " returned a broken trace: ", problem));
}

void check(const Transform& transform, const Trace& trace) {
  const std::string problem = verify_problem(trace);
  if (!problem.empty()) broken(transform, problem);
}

bool same_program(const Trace& a, const Trace& b) {
  return a.body == b.body && a.inputs == b.inputs && a.output == b.output;
}

}  // namespace

Trace apply_pre_prologue(const Transforms& transforms, const Trace& trace, PassContext& ctx) {
  if (transforms.empty()) return trace;
  Phases phases = split_phases(trace);
  for (const auto& transform : transforms) {
    Phases changed = transform->transform_traces_pre_prologue(phases);
    check(*transform, changed.prologue);
    check(*transform, changed.computation);
    check(*transform, changed.epilogue);
    if (ctx.stages && !same_program(changed.computation, phases.computation)) {
      ctx.stages->push_back(changed.computation);
    }
    phases = std::move(changed);
    try {
      check(*transform, join_phases(phases.computation, phases.epilogue));
    } catch (const UserError& e) {
      broken(*transform, e.what());
    }
  }
  return join_phases(phases.computation, phases.epilogue);
}

Trace apply_post_optimization(const Transforms& transforms, const Trace& trace, PassContext& ctx) {
  Trace current = trace;
  for (const auto& transform : transforms) {
    Trace changed = transform->transform_trace_post_optimization(current);
    check(*transform, changed);
    if (ctx.stages && !same_program(changed, current)) ctx.stages->push_back(changed);
    current = std::move(changed);
  }
  return current;
}

}  // namespace fulmen::passes
