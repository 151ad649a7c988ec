#include "exec/claim.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/region.h"
#include "ops/control.h"
#include "ops/state.h"
#include "passes/dce.h"
#include "passes/own_gradient.h"
#include "passes/partition.h"
#include "passes/pipeline.h"
#include "passes/reuse.h"

namespace fulmen::exec {
namespace {

using Refusals = std::vector<std::pair<std::string, std::string>>;

std::string text(const Refusals& refusals) {
  std::string all;
  for (const auto& [executor, why] : refusals)
    append(all, cat(all.empty() ? "" : "; ", executor, ": ", why));
  return all;
}

class Claimer {
 public:
  // `inside`: the trace runs inside of a region under autograd.
  Claimer(const Trace& trace, const Compilation& compilation, passes::PassContext& ctx,
          ClaimReport& report, bool inside)
      : trace_(trace), compilation_(compilation), ctx_(ctx), report_(report), inside_(inside) {
    report_.ctx = trace.ctx;
  }

  // Leaves what the chosen operator executors do not take.
  Trace run_chosen() {
    only_chosen_ = true;
    Trace out = trace_;
    out.body.clear();
    for (const BoundSymbol* b : trace_.body) claim(*b, out.body, 0);
    return out;
  }

  Trace run() {
    Trace out = trace_;
    out.provenance = "Transform for execution";
    out.body.clear();
    for (const BoundSymbol* b : trace_.body) claim(*b, out.body, 0);
    if (open_.empty()) return out;
    const std::vector<const BoundSymbol*> offered = out.body;
    for (const ExecutorPtr& ex : compilation_.fusions()) make_regions(*ex, out);
    // Regions make the views that they read through themselves.
    passes::PassContext quiet;
    out = passes::dead_code_elimination(out, quiet);
    const std::vector<const BoundSymbol*> body = std::move(out.body);
    out.body.clear();
    note_regions(offered, body);
    regions_are_made_ = true;
    for (const BoundSymbol* b : body) {
      const auto found = open_.find(b);
      if (found == open_.end()) {
        if (b->executor.empty()) {
          claim(*b, out.body, 0);  // made with the regions
        } else {
          out.body.push_back(b);
        }
        continue;
      }
      // In no region: the executors after it are asked.
      const Open open = std::move(found->second);
      pending_ = open.refusals;
      pending_.emplace_back(compilation_.executors()[open.executor]->name(),
                            "no region that pays, or that it can run, has it");
      claim(*b, out.body, open.executor + 1);
    }
    return out;
  }

 private:
  // What is left to a fusion executor.
  struct Open {
    size_t executor;  // its index
    Refusals refusals;
  };

  // Offers it to the executors from the index `first` on.
  void claim(const BoundSymbol& bsym, std::vector<const BoundSymbol*>& body, size_t first) {
    if (!bsym.executor.empty()) {
      body.push_back(&bsym);
      note_claim(bsym, bsym.executor, {});
      return;
    }
    const auto& executors = compilation_.executors();
    Refusals refusals = std::move(pending_);
    pending_.clear();
    const Offer offer{trace_.ctx, bsym, !inside_ && any_requires_grad(bsym.output)};
    for (size_t i = first; i < executors.size(); ++i) {
      const Executor& ex = *executors[i];
      if (!ex.concerns(*bsym.symbol)) continue;
      if (only_chosen_ && (!ex.is_optional() || is_fusion(executors[i]))) continue;
      if (rewriting(ex, *bsym.symbol)) continue;
      const bool fuses = is_fusion(executors[i]) && !region_of(*bsym.symbol);
      if (fuses && regions_are_made_) continue;
      std::string reason = ex.refusal(offer);
      if (!reason.empty()) {
        refusals.emplace_back(ex.name(), std::move(reason));
        continue;
      }
      if (fuses) {
        open_[&bsym] = {i, std::move(refusals)};
        body.push_back(&bsym);
        return;
      }
      if (ex.is_optional() && !take_fuel(ex, bsym)) continue;
      std::optional<Form> form = ex.rewrite(offer);
      note_claim(bsym, ex.name(), refusals, form ? 0 : 1);
      if (form) {
        replace(ex, bsym, *form, body);
      } else {
        body.push_back(claimed(ex, bsym));
      }
      return;
    }
    if (only_chosen_) {
      body.push_back(&bsym);
    } else {
      decompose(bsym, refusals, body);
    }
  }

  bool is_fusion(const ExecutorPtr& ex) const {
    const auto& fusions = compilation_.fusions();
    return std::find(fusions.begin(), fusions.end(), ex) != fusions.end();
  }

  // What an executor makes of a symbol may hold that symbol again: others run that.
  bool rewriting(const Executor& ex, const Symbol& symbol) const {
    for (const auto& [executor, of] : rewriting_) {
      if (executor == &ex && of == &symbol) return true;
    }
    return false;
  }

  bool take_fuel(const Executor& ex, const BoundSymbol& bsym) {
    const auto& fuel = compilation_.fuel();
    return !fuel ||
           fuel->take([&] { return cat("executor ", ex.name(), ": ", passes::describe(bsym)); });
  }

  const BoundSymbol* claimed(const Executor& ex, const BoundSymbol& bsym) {
    Args args(bsym.args);
    if (bsym.symbol == &ops::differentiable) args[0] = claimed_program(*args[0].program());
    BoundSymbol* copy = trace_.ctx->make_bound_symbol(*bsym.symbol, args, bsym.output, bsym.source);
    copy->executor = ex.name();
    return copy;
  }

  Arg claimed_program(const Subprogram& program) {
    passes::PassContext quiet;
    quiet.fuel = ctx_.fuel;
    const Trace part = to_trace(program);
    const Trace claimed = Claimer(part, compilation_, ctx_, report_, true).run();
    return trace_.ctx->make_program(
        passes::last_pass().run(passes::reuse_below_autograd(claimed), quiet));
  }

  // The executor's form, whose bound symbols are offered in turn.
  void replace(const Executor& ex, const BoundSymbol& bsym, const Form& form,
               std::vector<const BoundSymbol*>& body) {
    Substitution map;
    map.bind(form.output, bsym.output);
    rewriting_.emplace_back(&ex, bsym.symbol);
    for (const BoundSymbol* b : form.body) claim(*map.apply(*trace_.ctx, *b), body, 0);
    rewriting_.pop_back();
  }

  void decompose(const BoundSymbol& bsym, const Refusals& refusals,
                 std::vector<const BoundSymbol*>& body) {
    const auto inner = subsymbols(trace_.ctx, bsym);
    if (inner.empty()) {
      throw UserError(ErrorKind::kNotImplemented, "no-executor",
                      cat(bsym.symbol->name(), "(): no executor runs it (", text(refusals), ")",
                          source_suffix(bsym.source)));
    }
    note_claim(bsym, {}, refusals);
    for (const BoundSymbol* b : inner) claim(*b, body, 0);
  }

  void note_claim(const BoundSymbol& bsym, std::string_view executor, const Refusals& refusals,
                  int instructions = 1) {
    const std::string& symbol = bsym.symbol->name();
    if (!executor.empty() && instructions) ++report_.claimed[std::string(executor)];
    if (!refusals.empty() || executor.empty()) report_.refusals.emplace(symbol, text(refusals));
    report_.decisions.push_back({&bsym, std::string(executor), refusals});
  }

  void note_regions(const std::vector<const BoundSymbol*>& before,
                    const std::vector<const BoundSymbol*>& after) {
    const std::unordered_set<const BoundSymbol*> old(before.begin(), before.end());
    const std::unordered_set<const BoundSymbol*> left(after.begin(), after.end());
    for (const BoundSymbol* b : after) {
      if (!old.contains(b)) ++report_.claimed[std::string(b->executor)];
    }
    for (const BoundSymbol* b : before) {
      const auto found = open_.find(b);
      if (left.contains(b) || found == open_.end()) continue;  // a view that regions took over
      const Open& open = found->second;
      report_.decisions.push_back(
          {b, std::string(compilation_.executors()[open.executor]->name()), open.refusals});
    }
  }

  void make_regions(const Executor& ex, Trace& trace) {
    const auto rules = ex.fusion_rules(trace_.ctx);
    rules->executor = ex.name();
    rules->refusal = [&](const BoundSymbol& b) -> std::string {
      const auto found = open_.find(&b);
      // A step of one that was opened.
      if (found == open_.end() && b.executor.empty()) return ex.refusal({trace_.ctx, b, false});
      const bool its =
          found != open_.end() && compilation_.executors()[found->second.executor].get() == &ex;
      return its ? "" : "another executor's";
    };
    ctx_.fusion = rules.get();
    const auto before = ctx_.stages;
    if (inside_) ctx_.stages = nullptr;
    trace = passes::run_pass(passes::partition_pass(), trace, ctx_);
    ctx_.stages = before;
    ctx_.fusion = nullptr;
  }

  const Trace& trace_;
  const Compilation& compilation_;
  passes::PassContext& ctx_;
  ClaimReport& report_;
  const bool inside_;
  std::unordered_map<const BoundSymbol*, Open> open_;
  bool only_chosen_ = false;
  bool regions_are_made_ = false;
  Refusals pending_;  // what a bound symbol that was open was refused for before
  std::vector<std::pair<const Executor*, const Symbol*>> rewriting_;
};

}  // namespace

Trace transform_for_execution(const Trace& trace, const Compilation& compilation,
                              passes::PassContext& ctx, ClaimReport& report) {
  return Claimer(trace, compilation, ctx, report, /*inside=*/false).run();
}

Trace claim_operators(const Trace& trace, const Compilation& compilation, passes::PassContext& ctx,
                      ClaimReport& report) {
  return Claimer(trace, compilation, ctx, report, /*inside=*/false).run_chosen();
}

Trace claim_gradients(const Trace& trace, const Compilation& compilation, passes::PassContext&) {
  Trace out = trace;
  bool changed = false;
  for (const BoundSymbol*& b : out.body) {
    if (!any_requires_grad(b->output) || b->symbol->has(kEffect | kInplace)) continue;
    const Offer offer{trace.ctx, *b, false};
    for (const ExecutorPtr& ex : compilation.executors()) {
      if (!ex->concerns(*b->symbol) || ex->is_fusion()) continue;
      if (!ex->refusal(offer).empty()) continue;
      std::optional<passes::OwnGradient> own = ex->own_gradient(offer);
      if (!own) break;  // the symbol's own gradient goes with what this executor runs
      try {
        const BoundSymbol* replaced = passes::with_own_gradient(trace.ctx, *b, *own);
        const auto& fuel = compilation.fuel();
        const auto what = [&] {
          return cat("gradient of executor ", ex->name(), ": ", passes::describe(*b));
        };
        if (fuel && !fuel->take(what)) break;
        b = replaced;
        changed = true;
      } catch (const Unsupported& e) {
        throw UserError(ErrorKind::kValue, "grad-transform",
                        cat("executor ", ex->name(), ": the grad_transform of ", b->symbol->name(),
                            "() can't be used: ", e.what(), source_suffix(b->source)));
      }
      break;
    }
  }
  return changed ? out : trace;
}

}  // namespace fulmen::exec
