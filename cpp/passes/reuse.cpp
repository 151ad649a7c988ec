#include "passes/reuse.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "analysis/recorded.h"
#include "ir/write_back.h"
#include "ops/linear_loss.h"
#include "ops/meta.h"
#include "ops/optimizer.h"
#include "passes/rebase.h"

namespace fulmen::passes {
namespace {

constexpr size_t kNever = static_cast<size_t>(-1);

bool same_memory(const TensorType& a, const TensorType& b) {
  return a.dtype == b.dtype && a.device == b.device && a.shape == b.shape &&
         a.strides == b.strides && meta::is_non_overlapping_and_dense(a);
}

// The operation that writes to its lists of tensors what `s` returns for them; null if none does.
const Symbol* list_twin(const Symbol& s) {
  static constexpr std::pair<const Symbol*, const Symbol*> kTwins[] = {
      {&ops::fused_adam, &ops::fused_adam_},
      {&ops::fused_adamw, &ops::fused_adamw_},
      {&ops::fused_sgd, &ops::fused_sgd_},
      {&ops::fused_adagrad, &ops::fused_adagrad_}};
  for (const auto& [row, twin] : kTwins) {
    if (row == &s) return twin;
  }
  return nullptr;
}

class Reuse {
 public:
  explicit Reuse(const Trace& trace) : trace_(trace), ctx_(*trace.ctx) {
    for (size_t i = 0; i < trace.body.size(); ++i) {
      const BoundSymbol& b = *trace.body[i];
      for_each_proxy(b.output, [&](const Proxy* p) { made_at_[p] = i; });
      for (const Arg& a : b.args) {
        for_each_proxy(a, [&](const Proxy* p) { reads_[storage_of(p)].push_back(i); });
      }
    }
    for_each_proxy(trace.output, [&](const Proxy* p) { returned_.insert(storage_of(p)); });
    for (const Proxy* p : trace.inputs) inputs_.insert(storage_of(p));
    for (const auto& group : trace.alias_groups) shared_.insert(group.begin(), group.end());
  }

  Trace run() {
    find_updates();
    find_list_updates();
    Trace out = trace_;
    out.body.clear();
    for (size_t i = 0; i < trace_.body.size(); ++i) {
      if (dropped_.contains(i)) {
        // What the write-back returned is the tensor, which has the value already.
        names_.add(trace_.body[i]->output.proxy(), names_.apply(ctx_, trace_.body[i]->args[1]));
        continue;
      }
      const BoundSymbol& b = *apply_rebased(names_, ctx_, *trace_.body[i]);
      if (const Symbol* twin = list_updates_.contains(i) ? list_twin(*b.symbol) : nullptr) {
        BoundSymbol* update = ctx_.make_bound_symbol(*twin, b.args, Arg(), b.source);
        update->executor = b.executor;
        out.body.push_back(update);
        continue;
      }
      out.body.push_back(&b);
      if (b.symbol == &ops::scaled_gradient && is_last_read(*trace_.body[i], i)) {
        out.body.back() = last(b);
        continue;
      }
      const int operand = updates_.contains(i) ? 0 : dying_operand(i);
      if (operand >= 0) out.body.back() = in_place(b, operand);
    }
    if (!changed_) return trace_;
    out.output = names_.apply(ctx_, trace_.output);
    out.functional = false;
    return out;
  }

 private:
  // Of its first operand, which may be an input: whether somebody outside of the program has it is
  // known when it runs.
  bool is_last_read(const BoundSymbol& b, size_t at) const {
    const TensorProxy* t = b.args[0].tensor();
    return !t->alias_of && !returned_.contains(t) && reads_.at(t).back() == at;
  }

  const BoundSymbol* last(const BoundSymbol& b) {
    std::vector<Arg> args(b.args.begin(), b.args.end());
    args[static_cast<size_t>(b.symbol->info->schema.index("last"))] = Arg(true);
    BoundSymbol* copy = ctx_.make_bound_symbol(*b.symbol, args, b.output, b.source);
    copy->executor = b.executor;
    changed_ = true;
    return copy;
  }

  // The input that a chain of operations starts from and is written back to.
  void find_updates() {
    for (size_t i = 0; i < trace_.body.size(); ++i) {
      const BoundSymbol& b = *trace_.body[i];
      if (!is_write_back(b)) continue;
      const TensorProxy *input = b.args[0].tensor(), *value = b.args[1].tensor();
      if (!input || !value || input->alias_of || shared_.contains(input)) continue;
      std::vector<size_t> chain;
      if (!leads_back(value, input, i, chain)) continue;
      updates_.insert(chain.begin(), chain.end());
      dropped_.insert(i);
      changed_ = true;
    }
  }

  bool leads_back(const TensorProxy* value, const TensorProxy* input, size_t copy,
                  std::vector<size_t>& chain) const {
    for (const TensorProxy* now = value;;) {
      const auto made = made_at_.find(now);
      if (made == made_at_.end() || now->alias_of || is_callers(now)) return false;
      const size_t at = made->second;
      const BoundSymbol& b = *trace_.body[at];
      if (!has_twin(b, 0)) return false;
      chain.push_back(at);
      const TensorProxy* from = b.args[0].tensor();
      // Between two steps nobody else may look.
      const auto quiet = [&](const Proxy* p) {
        for (const size_t read : reads_.at(storage_of(p))) {
          if (read > at && read != copy) return false;
        }
        return true;
      };
      if (!quiet(from)) return false;
      if (from == input) return true;
      now = from;
    }
  }

  // Updates of lists of inputs whose results are written back to these.
  void find_list_updates() {
    for (size_t i = 0; i < trace_.body.size(); ++i) {
      const BoundSymbol& b = *trace_.body[i];
      const Symbol* twin = b.executor == "aten" ? list_twin(*b.symbol) : nullptr;
      std::vector<size_t> copies;
      if (!twin || !all_written_back(b, i, *twin, copies)) continue;
      const auto results = b.output.items();
      for (size_t list = 0; list < results.size(); ++list) {
        for (size_t k = 0; k < results[list].items().size(); ++k)
          names_.add(results[list].items()[k].proxy(), b.args[list].items()[k]);
      }
      list_updates_.insert(i);
      dropped_.insert(copies.begin(), copies.end());
      changed_ = true;
    }
  }

  // The lists that the twin writes are its first arguments, in the order of the results.
  bool all_written_back(const BoundSymbol& b, size_t at, const Symbol& twin,
                        std::vector<size_t>& copies) const {
    const auto& params = twin.info->schema.params;
    const auto results = b.output.items();
    const auto reads_of = [&](const Proxy* p) {
      const auto it = reads_.find(storage_of(p));
      return it == reads_.end() ? std::vector<size_t>() : it->second;
    };
    for (size_t list = 0; list < results.size(); ++list) {
      // Gradients are written only where they are scaled.
      const bool written = params[list].name != "grads" || !b.arg("grad_scale").is_none();
      for (size_t k = 0; k < results[list].items().size(); ++k) {
        const TensorProxy* old = b.args[list].items()[k].tensor();
        const TensorProxy* now = results[list].items()[k].tensor();
        const std::vector<size_t> later = reads_of(now);
        if (!written && later.empty() && !is_callers(now)) continue;
        if (old->alias_of || shared_.contains(old) || is_callers(now) ||
            !same_memory(old->type, now->type) || !inputs_.contains(old)) {
          return false;
        }
        size_t copy = kNever;
        for (const size_t i : later) {
          const BoundSymbol& c = *trace_.body[i];
          if (is_write_back(c) && c.args[0] == Arg(old) && c.args[1] == Arg(now)) copy = i;
        }
        size_t here = 0;
        for (const size_t i : reads_of(old)) {
          here += i == at;
          if (i > at && i != copy) return false;
        }
        if (copy == kNever || here != 1) return false;
        copies.push_back(copy);
      }
    }
    return true;
  }

  // Whether the caller has it, so that its memory is never free.
  bool is_callers(const Proxy* p) const {
    return returned_.contains(storage_of(p)) || inputs_.contains(storage_of(p));
  }

  // Whether the operation can write to that operand instead.
  bool has_twin(const BoundSymbol& b, size_t operand) const {
    const Symbol& s = *b.symbol;
    if (b.executor != "aten" || !s.info->inplace || !s.has(kPointwise) || s.has(kRandom | kView))
      return false;
    const TensorProxy* result = b.output.is_proxy() ? b.output.tensor() : nullptr;
    const TensorProxy* target = operand < b.args.size() ? b.args[operand].tensor() : nullptr;
    if (!result || !target || !same_memory(result->type, target->type)) return false;
    // With a number PyTorch rounds half types in another place when it writes.
    const bool half = is_floating(result->type.dtype) && itemsize(result->type.dtype) < 4;
    for (size_t i = 0; i < b.args.size(); ++i) {
      if (i == operand) continue;
      if (half && b.args[i].is_number()) return false;
      bool overlaps = false;
      for_each_proxy(b.args[i], [&](const Proxy* p) {
        overlaps = overlaps || (p != target && storage_of(p) == storage_of(target));
      });
      if (overlaps) return false;
    }
    return true;
  }

  // An operand whose memory is free after the operation; -1 if there is none.
  int dying_operand(size_t at) {
    const BoundSymbol& b = *trace_.body[at];
    const std::string& name = b.symbol->name();
    const bool commutes =
        name == "mul" || (name == "add" && b.args.size() > 2 &&
                          b.args[2].kind() == Arg::Kind::kInt && b.args[2].integer() == 1);
    for (int operand = 0; operand < (commutes ? 2 : 1); ++operand) {
      if (!has_twin(b, static_cast<size_t>(operand))) continue;
      const TensorProxy* target = b.args[static_cast<size_t>(operand)].tensor();
      // Results keep their names, by which others know them.
      if (target->alias_of || is_callers(target) || reads_.at(target).back() != at ||
          !owns_memory(target) || is_callers(b.output.proxy())) {
        continue;
      }
      changed_ = true;
      return operand;
    }
    return -1;
  }

  // Made by an operation that never gives out memory of something else.
  bool owns_memory(const TensorProxy* t) const {
    const auto made = made_at_.find(t);
    if (made == made_at_.end()) return false;
    const BoundSymbol& maker = *trace_.body[made->second];
    const Symbol& s = *maker.symbol;
    // These give their argument where there is nothing to compute.
    for (const std::string_view name : {"einsum", "conj_physical", "positive"}) {
      if (s.name() == name) return false;
    }
    return (maker.executor == "aten" || maker.executor == "products") &&
           s.has(kPointwise | kReduction | kMatmul) && !s.has(kOpaque | kView | kInplace | kRandom);
  }

  const BoundSymbol* in_place(const BoundSymbol& b, int operand) {
    std::vector<Arg> args(b.args.begin(), b.args.end());
    if (operand == 1) std::swap(args[0], args[1]);
    const TensorProxy* target = args[0].tensor();
    TensorProxy* result = ctx_.make_tensor(b.output.tensor()->type, b.output.tensor()->name);
    result->alias_of = target;
    result->type.requires_grad = target->type.requires_grad;
    names_.add(b.output.proxy(), Arg(static_cast<const Proxy*>(result)));
    BoundSymbol* twin = ctx_.make_bound_symbol(*b.symbol->info->inplace, args,
                                               Arg(static_cast<const Proxy*>(result)), b.source);
    twin->executor = b.executor;
    return twin;
  }

  const Trace& trace_;
  TraceContext& ctx_;
  std::unordered_map<const Proxy*, size_t> made_at_;
  std::unordered_map<const Proxy*, std::vector<size_t>> reads_;  // of a storage, in order
  std::unordered_set<const Proxy*> inputs_, returned_;           // storages
  std::unordered_set<const Proxy*> shared_;                      // inputs
  std::unordered_set<size_t> updates_;  // operations that write to an input
  std::unordered_set<size_t> list_updates_;
  std::unordered_set<size_t> dropped_;  // write-backs that need not be made
  Substitution names_;
  bool changed_ = false;
};

}  // namespace

Trace reuse_operands(const Trace& trace, PassContext&) {
  return is_recorded(trace) ? trace : reuse_below_autograd(trace);
}

Trace reuse_below_autograd(const Trace& trace) {
  return trace.functional ? Reuse(trace).run() : trace;
}

}  // namespace fulmen::passes
