#include "passes/phases.h"

#include "analysis/liveness.h"
#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ops/prologue.h"

namespace fulmen::passes {
namespace {

Trace make_prologue(const Trace& trace) {
  Trace prologue;
  prologue.ctx = trace.ctx;
  prologue.name = "prologue";
  prologue.inputs = trace.inputs;
  prologue.provenance = "Acquisition";
  Builder builder(trace.ctx);
  Args results;
  for (const Proxy* p : trace.inputs) {
    if (const TensorProxy* t = as_tensor(p)) ops::record_check(builder, *t);
    results.push_back(Arg(p));
  }
  prologue.body = builder.body();
  prologue.output = trace.ctx->make_collection(Arg::Kind::kTuple, results);
  return prologue;
}

// The first of the bound symbols at the end that write back. See Note [Write-backs].
size_t first_write_back(const Trace& trace) {
  if (!trace.functional) return trace.body.size();
  for (size_t i = 0; i < trace.body.size(); ++i) {
    if (trace.body[i]->symbol->has(kInplace)) return i;
  }
  return trace.body.size();
}

}  // namespace

Phases split_phases(const Trace& trace) {
  Phases phases{make_prologue(trace), trace, trace};
  const size_t cut = first_write_back(trace);
  phases.computation.body.assign(trace.body.begin(), trace.body.begin() + cut);
  Trace& epilogue = phases.epilogue;
  epilogue.name = "epilogue";
  epilogue.body.assign(trace.body.begin() + cut, trace.body.end());

  Args values;
  for (const Proxy* p : free_values(epilogue.body, trace.inputs, trace.output)) {
    values.push_back(Arg(p));
    epilogue.inputs.push_back(p);
  }
  phases.computation.output = trace.ctx->make_collection(Arg::Kind::kTuple, values);
  return phases;
}

Trace join_phases(const Trace& computation, const Trace& epilogue) {
  const size_t own = computation.inputs.size();
  const auto values = computation.output.items();
  if (epilogue.inputs.size() != own + values.size()) {
    throw UserError(ErrorKind::kValue, "broken-transform",
                    cat("the computation returns ", uint64_t{values.size()}, " values; expected ",
                        uint64_t{epilogue.inputs.size() - own}));
  }
  Substitution map;
  for (size_t i = 0; i < values.size(); ++i) map.bind(Arg(epilogue.inputs[own + i]), values[i]);
  Trace joined = computation;
  for (const BoundSymbol* b : epilogue.body) joined.body.push_back(map.apply(*joined.ctx, *b));
  joined.output = map.apply(*joined.ctx, epilogue.output);
  return joined;
}

}  // namespace fulmen::passes
