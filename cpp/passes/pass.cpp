#include "passes/pass.h"

#include <algorithm>
#include <chrono>

#include "analysis/proxy_map.h"
#include "ir/builder.h"
#include "ir/control.h"
#include "support/cat.h"
#include "support/error.h"

namespace fulmen::passes {
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

std::string verify_problem(const Trace& trace) {
  enum : uint8_t { kUnknown, kDefined, kFreed };
  ProxyMap<uint8_t> state;
  std::string problem;
  for (const Proxy* p : trace.inputs) state.set(p, kDefined);
  const auto read = [&](const Proxy* p, std::string_view reader) {
    if (state.get(p) == kDefined || !problem.empty()) return;
    problem = cat(reader, " reads ", p->name,
                  state.get(p) == kFreed ? ", which was freed before" : ", which nothing defines");
  };
  for (const BoundSymbol* b : trace.body) {
    const std::string& name = b->symbol->name();
    for (const Arg& a : b->args) for_each_proxy(a, [&](const Proxy* p) { read(p, name); });
    if (b->symbol == &del_last_used) {
      for (const Arg& a : b->args) {
        for_each_proxy(a, [&](const Proxy* p) { state.set(p, kFreed); });
      }
      continue;
    }
    for_each_proxy(b->output, [&](const Proxy* p) {
      if (state.get(p) != kUnknown && problem.empty()) {
        const bool is_argument = std::any_of(b->args.begin(), b->args.end(), [&](const Arg& a) {
          return a.is_proxy() && a.proxy() == p;
        });
        if (!is_argument) problem = cat(name, " defines ", p->name, " again");
      }
      state.set(p, kDefined);
    });
    if (!problem.empty()) return problem + source_suffix(b->source);
  }
  for_each_proxy(trace.output, [&](const Proxy* p) { read(p, "the result"); });
  return problem;
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
  if (ctx.options.verify) {
    const std::string problem = verify_problem(out);
    if (!problem.empty()) internal_error("pass ", pass.name, ": ", problem);
  }
  out.provenance = provenance_text(pass.title, took);
  if (ctx.stages) ctx.stages->push_back(out);
  return out;
}

}  // namespace fulmen::passes
