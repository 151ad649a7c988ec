#include "exec/claim.h"

#include "ir/builder.h"
#include "ir/rewrite.h"
#include "ops/control.h"
#include "passes/pipeline.h"

namespace fulmen::exec {
namespace {

class Claimer {
 public:
  Claimer(Trace& out, std::span<const Executor* const> executors, ClaimReport& report)
      : out_(out), executors_(executors), report_(report) {}

  void claim(const BoundSymbol& bsym) {
    std::string reasons;
    for (const Executor* ex : executors_) {
      if (!ex->concerns(*bsym.symbol)) continue;
      std::string reason = ex->refusal(bsym);
      if (reason.empty()) {
        ++report_.claimed[std::string(ex->name())];
        if (!reasons.empty()) report_.refusals.emplace(bsym.symbol->name(), reasons);
        Args args(bsym.args);
        if (bsym.symbol == &ops::differentiable) args[0] = claimed_program(*args[0].program());
        BoundSymbol* claimed =
            out_.ctx->make_bound_symbol(*bsym.symbol, args, bsym.output, bsym.source);
        claimed->executor = ex->name();
        out_.body.push_back(claimed);
        return;
      }
      append(reasons, cat(reasons.empty() ? "" : "; ", ex->name(), ": ", reason));
    }
    const auto inner = subsymbols(out_.ctx, bsym);
    if (inner.empty()) {
      throw UserError(ErrorKind::kNotImplemented, "no-executor",
                      cat(bsym.symbol->name(), "(): no executor runs it (", reasons, ")",
                          source_suffix(bsym.source)));
    }
    report_.refusals.emplace(bsym.symbol->name(), reasons);
    for (const BoundSymbol* b : inner) claim(*b);
  }

 private:
  Arg claimed_program(const Subprogram& program) {
    passes::PassContext quiet;
    const Trace claimed = transform_for_execution(to_trace(program), executors_, report_);
    return out_.ctx->make_program(passes::last_pass().run(claimed, quiet));
  }

  Trace& out_;
  std::span<const Executor* const> executors_;
  ClaimReport& report_;
};

}  // namespace

Trace transform_for_execution(const Trace& trace, std::span<const Executor* const> executors,
                              ClaimReport& report) {
  Trace out = trace;
  out.body.clear();
  out.provenance = "Transform for execution";
  Claimer claimer(out, executors, report);
  for (const BoundSymbol* bsym : trace.body) claimer.claim(*bsym);
  return out;
}

}  // namespace fulmen::exec
