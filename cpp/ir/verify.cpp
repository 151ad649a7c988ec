#include "ir/verify.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ir/builder.h"
#include "ir/control.h"
#include "ir/printer.h"
#include "ir/region.h"
#include "ir/write_back.h"

namespace fulmen {
namespace {

enum class State : uint8_t { kAlive, kDeleted };

class Verifier {
 public:
  explicit Verifier(const Trace& trace) : trace_(trace) {}

  void run() {
    for (const Proxy* p : trace_.inputs) {
      if (!p) fail("a null input");
      if (!scope_.emplace(p, State::kAlive).second)
        fail(cat("the input ", p->name, " occurs twice"));
    }
    for (const Proxy* p : trace_.inputs) check_strides(p);
    check_groups();
    for (at_ = 0; at_ < trace_.body.size(); ++at_) statement(*trace_.body[at_]);
    use(trace_.output);
    if (trace_.functional) check_functional();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::string s = cat("broken trace (", trace_.provenance, "): ", what, "\n");
    const size_t first = at_ < 5 ? 0 : at_ - 5;
    const size_t last = std::min(at_ + 6, trace_.body.size());
    for (size_t i = first; i < last; ++i) {
      append(s, i == at_ ? "> " : "  ");
      append(s, *trace_.body[i]);
      append(s, '\n');
    }
    if (at_ >= trace_.body.size()) append(s, cat("> return ", text(trace_.output), "\n"));
    throw InternalError(s);
  }

  template <class T>
  static std::string text(const T& v) {
    std::string s;
    append(s, v);
    return s;
  }

  void use(const Arg& a) const {
    for_each_proxy(a, [&](const Proxy* p) {
      const auto it = scope_.find(p);
      if (it == scope_.end()) fail(cat(p->name, " is used before it is defined"));
      if (it->second == State::kDeleted) fail(cat(p->name, " is used after its deletion"));
    });
  }

  void check_groups() const {
    std::unordered_set<const Proxy*> grouped;
    for (const auto& group : trace_.alias_groups) {
      for (const Proxy* p : group) {
        if (!scope_.contains(p)) fail(cat(p->name, " shares storage, but is no input"));
        if (!grouped.insert(p).second) fail(cat(p->name, " is in two groups of shared storage"));
      }
    }
  }

  void check_strides(const Proxy* p) const {
    const TensorProxy* t = as_tensor(p);
    if (t && t->type.strides.size() != t->type.shape.size()) {
      fail(cat(p->name, " has not as many strides as sizes"));
    }
  }

  // An input may be a view of a value of the program that this one is a part of.
  void check_alias(const Proxy* p) const {
    check_strides(p);
    const TensorProxy* t = as_tensor(p);
    if (!t) return;
    if (t->alias_of && (t->alias_of == t || !scope_.contains(t->alias_of))) {
      fail(cat(p->name, " is a view of ", t->alias_of->name, ", which is not in scope"));
    }
  }

  void statement(const BoundSymbol& b) {
    const Schema& schema = b.symbol->info->schema;
    if (b.args.size() != schema.params.size()) {
      fail(cat(b.symbol->name(), " takes ", uint64_t{schema.params.size()}, " arguments, not ",
               uint64_t{b.args.size()}));
    }
    for (const Arg& a : b.args) {
      use(a);
      if (a.kind() != Arg::Kind::kProgram) continue;
      Trace part = to_trace(*a.program());
      part.functional = b.executor.empty();  // a claimed one writes into operands that die
      Verifier(part).run();
    }
    check_kinds(b);
    if (b.symbol == &del_last_used) {
      for_each_proxy(b.args[0], [&](const Proxy* p) { scope_[p] = State::kDeleted; });
      return;
    }
    SmallVec<const Proxy*, 8> given;
    for (const Arg& a : b.args) for_each_proxy(a, [&](const Proxy* p) { given.push_back(p); });
    const auto is_given = [&](const Proxy* p) {
      return std::find(given.begin(), given.end(), p) != given.end();
    };
    SmallVec<const Proxy*, 8> defined;
    for_each_proxy(b.output, [&](const Proxy* p) {
      if (is_given(p) || std::find(defined.begin(), defined.end(), p) != defined.end()) return;
      if (!scope_.emplace(p, State::kAlive).second) fail(cat(p->name, " is defined twice"));
      defined.push_back(p);
    });
    for (const Proxy* p : defined) check_alias(p);
    check_inferred(b);
  }

  void check_kinds(const BoundSymbol& b) const {
    const Schema& schema = b.symbol->info->schema;
    if (schema.variadic) {
      if (b.args[0].kind() != Arg::Kind::kTuple || b.args[1].kind() != Arg::Kind::kDict) {
        fail("an opaque symbol takes a tuple and a dict");
      }
      return;
    }
    Args positional;
    Kwargs keywords;
    for (size_t i = 0; i < b.args.size(); ++i) {
      if (schema.params[i].keyword_only) {
        keywords.push_back({schema.params[i].name, b.args[i]});
      } else {
        positional.push_back(b.args[i]);
      }
    }
    Arena scratch;
    Args bound;
    std::string why;
    if (!try_bind(schema, positional, keywords, scratch, bound, &why)) {
      fail(cat(b.symbol->name(), ": ", why));
    }
  }

  void check_inferred(const BoundSymbol& b) {
    const Symbol& s = *b.symbol;
    if (s.info->schema.variadic || s.has(kInplace) || (!s.meta && !s.decompose)) return;
    // Inferred values live and die here: the trace's own context is not written.
    Builder builder(scratch_);
    // A trace does not say which default dtype was set while it was recorded.
    for_each_proxy(b.output, [&](const Proxy* p) {
      const TensorProxy* t = as_tensor(p);
      if (t && is_differentiable(t->type.dtype)) builder.default_dtype = real_dtype(t->type.dtype);
    });
    Arg inferred;
    try {
      inferred = builder.infer(s, b.args);
    } catch (const Unsupported&) {
      return;
    } catch (const UserError& e) {
      fail(cat("eager refuses this call: ", e.what()));
    }
    compare(b.output, inferred);
  }

  void compare(const Arg& stored, const Arg& inferred) const {
    if (stored.is_none()) return;  // a result that nobody uses
    if (stored.is_proxy() != inferred.is_proxy() || stored.kind() != inferred.kind()) {
      fail(cat("the result is ", text(stored), ", the symbol's meta gives ", text(inferred)));
    }
    if (stored.is_collection()) {
      if (stored.items().size() != inferred.items().size()) {
        fail(cat(uint64_t{stored.items().size()}, " results, the symbol's meta gives ",
                 uint64_t{inferred.items().size()}));
      }
      for (size_t i = 0; i < stored.items().size(); ++i) {
        compare(stored.items()[i], inferred.items()[i]);
      }
      return;
    }
    if (!stored.is_proxy()) return;
    if (stored.proxy()->kind != inferred.proxy()->kind) {
      fail(cat(stored.proxy()->name, " is of another kind than the symbol's meta gives"));
    }
    const TensorProxy* t = as_tensor(stored.proxy());
    if (!t) return;
    TensorType expected = inferred.tensor()->type;
    expected.requires_grad = t->type.requires_grad;
    if (!(t->type == expected)) {
      fail(cat(t->name, " is ", text(t->type), ", the symbol's meta gives ", text(expected)));
    }
  }

  void check_functional() {
    bool tail = true;
    for (at_ = trace_.body.size(); at_-- > 0;) {
      const BoundSymbol& b = *trace_.body[at_];
      if (b.symbol == &del_last_used) continue;
      if (region_of(*b.symbol)) {
        check_written(b);
      } else if (!b.symbol->has(kInplace)) {
        // Results that are views of written inputs are made after the write-backs; so is the
        // caller's grad mode again.
        tail = tail && (b.symbol->has(kView) || b.symbol->name() == "set_grad_enabled");
      } else if (!tail || !is_write_back(b) || !is_input(b.args[0])) {
        fail("an in-place operation that is no write-back in a functional trace");
      }
    }
  }

  bool is_input(const Arg& a) const {
    return a.is_proxy() &&
           std::find(trace_.inputs.begin(), trace_.inputs.end(), a.proxy()) != trace_.inputs.end();
  }

  // A region writes back what nobody after it reads as it was.
  void check_written(const BoundSymbol& region) const {
    for_each_written(region, [&](const Arg& written) {
      if (!is_input(written)) fail("a region writes to what is no input");
      const auto check = [&](const Proxy* p) {
        if (p == written.proxy()) fail(cat(p->name, " is read after a region has written it"));
      };
      for (size_t i = at_ + 1; i < trace_.body.size(); ++i) {
        for (const Arg& a : trace_.body[i]->args) for_each_proxy(a, check);
      }
    });
  }

  const Trace& trace_;
  const std::shared_ptr<TraceContext> scratch_ = std::make_shared<TraceContext>();
  const DimScope dim_scope_{scratch_->arena()};
  std::unordered_map<const Proxy*, State> scope_;
  size_t at_ = 0;
};

}  // namespace

void verify(const Trace& trace) { Verifier(trace).run(); }

}  // namespace fulmen
