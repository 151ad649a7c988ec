#include "passes/pass.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "ir/builder.h"
#include "ir/hash.h"
#include "ir/printer.h"
#include "ir/verify.h"
#include "support/cat.h"
#include "support/error.h"
#include "support/flags.h"

namespace fulmen::passes {
namespace {

bool same_program(const Trace& a, const Trace& b) {
  return a.body == b.body && a.inputs == b.inputs && a.output == b.output &&
         a.functional == b.functional;
}

}  // namespace

bool PassContext::take_fuel(const BoundSymbol* of) {
  if (!fuel) return true;
  return fuel->take([&] {
    const std::string_view name = pass.empty() ? "a rewrite" : pass;
    return of ? cat(name, ": ", describe(*of)) : std::string(name);
  });
}

std::string describe(const BoundSymbol& bsym) {
  std::string results;
  for_each_proxy(bsym.output, [&](const Proxy* p) {
    append(results, cat(results.empty() ? "" : ", ", p->name));
  });
  return cat(results, results.empty() ? "" : " = ", bsym.symbol->name(), "(…)",
             source_suffix(bsym.source));
}

PassContext context_from_flags() {
  PassContext ctx;
  ctx.options.verify = flag_bool(Flag::kVerify);
  ctx.options.dump = flag_has(Flag::kDump, "traces");
  ctx.fuel = std::make_shared<Fuel>(flag_int(Flag::kFuel));
  std::string text = flag_text(Flag::kPasses) + ",";
  for (size_t at = 0, end; (end = text.find(',', at)) != std::string::npos; at = end + 1) {
    if (text[at] == '-') ctx.options.disabled.push_back(text.substr(at + 1, end - at - 1));
  }
  return ctx;
}

std::string provenance_text(std::string_view title, int64_t microseconds) {
  return cat("Constructed by ", title, " (took ", microseconds,
             microseconds == 1 ? " microsecond)" : " microseconds)");
}

Trace run_pass(const Pass& pass, const Trace& trace, PassContext& ctx) {
  const auto& disabled = ctx.options.disabled;
  if (std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end()) return trace;
  if (pass.needs == Needs::kFunctionalTrace && !trace.functional) return trace;
  // A gradient that an executor brings comes with its claim.
  if (ctx.out_of_fuel() && !(ctx.own_gradients && pass.name == "autodiff")) return trace;

  const auto start = std::chrono::steady_clock::now();
  ctx.pass = pass.name;
  Trace out = pass.run(trace, ctx);
  ctx.pass = {};
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
                        std::chrono::steady_clock::now() - start)
                        .count();
  const bool changed = !same_program(out, trace);
  ctx.timings.push_back({pass.name, took, changed});
  if (!changed) {
    if (ctx.options.paranoid && hash(out) != hash(trace)) {
      internal_error("pass ", pass.name, " changed the trace and says it did not");
    }
    return trace;
  }
  out.provenance = provenance_text(pass.title, took);
  if (ctx.stages) ctx.stages->push_back(out);
  if (ctx.options.verify) verify(out);
  if (ctx.options.dump) std::fprintf(stderr, "%s\n", to_python(out).c_str());
  return out;
}

}  // namespace fulmen::passes
