#include "exec/claim.h"

#include "ir/builder.h"
#include "ir/rewrite.h"

namespace fulmen::exec {
namespace {

class Claimer {
 public:
  Claimer(Trace& out, std::span<const Executor* const> executors, ClaimReport& report)
      : out_(out), executors_(executors), report_(report) {}

  void claim(const BoundSymbol& bsym) {
    std::string reasons;
    for (const Executor* ex : executors_) {
      std::string reason = ex->refusal(bsym);
      if (reason.empty()) {
        ++report_.claimed[std::string(ex->name())];
        if (!reasons.empty()) report_.refusals.emplace(bsym.symbol->name(), reasons);
        BoundSymbol* claimed =
            out_.ctx->make_bound_symbol(*bsym.symbol, bsym.args, bsym.output, bsym.source);
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
