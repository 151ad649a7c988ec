#include "passes/pass.h"

#include <algorithm>
#include <chrono>

#include "support/cat.h"
#include "support/error.h"

namespace fulmen {
namespace {

bool same_program(const Trace& a, const Trace& b) {
  return a.body == b.body && a.inputs == b.inputs && a.output == b.output &&
         a.functional == b.functional;
}

}  // namespace

std::string provenance_text(std::string_view title, int64_t microseconds) {
  return cat("Constructed by ", title, " (took ", microseconds,
             microseconds == 1 ? " microsecond)" : " microseconds)");
}

Trace run_pass(const Pass& pass, const Trace& trace, PassContext& ctx) {
  const auto& disabled = ctx.options.disabled;
  if (std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end()) return trace;
  if (pass.needs == Needs::kFunctionalTrace && !trace.functional) return trace;
  if (ctx.fuel == 0) return trace;

  const auto start = std::chrono::steady_clock::now();
  Trace out = pass.run(trace, ctx);
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
                        std::chrono::steady_clock::now() - start)
                        .count();
  const bool changed = !same_program(out, trace);
  ctx.timings.push_back({pass.name, took, changed});
  if (!changed) return trace;
  out.provenance = provenance_text(pass.title, took);
  if (ctx.stages) ctx.stages->push_back(out);
  return out;
}

}  // namespace fulmen
