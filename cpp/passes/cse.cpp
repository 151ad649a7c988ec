#include "passes/cse.h"

#include <unordered_map>

#include "ir/rewrite.h"
#include "passes/dce.h"
#include "passes/escape.h"
#include "passes/rebase.h"
#include "support/hash.h"

namespace fulmen::passes {
namespace {

void add_to_hash(Hasher& h, const Arg& a) {
  h.add(static_cast<uint64_t>(a.kind()));
  if (a.is_proxy()) {
    h.add(static_cast<uint64_t>(a.proxy()->id));
  } else if (a.is_collection()) {
    h.add(a.items().size());
    for (const Arg& item : a.items()) add_to_hash(h, item);
  } else {
    switch (a.kind()) {
      case Arg::Kind::kBool:
      case Arg::Kind::kInt:
      case Arg::Kind::kDType: h.add(static_cast<uint64_t>(a.integer())); break;
      case Arg::Kind::kFloat: {
        const double v = a.real();
        uint64_t bits = 0;
        std::memcpy(&bits, &v, sizeof bits);
        h.add(bits);
        break;
      }
      case Arg::Kind::kString:
      case Arg::Kind::kLayout:
      case Arg::Kind::kMemoryFormat: h.add(a.text()); break;
      default: break;  // equality decides
    }
  }
}

uint64_t hash_of_call(const BoundSymbol& b) {
  Hasher h;
  h.add(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(b.symbol)));
  for (const Arg& a : b.args) add_to_hash(h, a);
  return h.value();
}

// The same nesting, and at each place the same type.
bool same_result_types(const Arg& a, const Arg& b) {
  if (a.is_collection()) {
    if (b.kind() != a.kind() || b.items().size() != a.items().size()) return false;
    for (size_t i = 0; i < a.items().size(); ++i) {
      if (!same_result_types(a.items()[i], b.items()[i])) return false;
    }
    return true;
  }
  if (!a.is_proxy() || !b.is_proxy()) return a == b;
  if (a.proxy()->kind != b.proxy()->kind) return false;
  if (const TensorProxy* x = a.tensor()) {
    return x->type == b.tensor()->type;
  }
  if (const NumberProxy* x = as_number(a.proxy())) {
    const NumberProxy* y = as_number(b.proxy());
    return x->type == y->type && x->value == y->value;
  }
  return false;
}

bool same_call(const BoundSymbol& a, const BoundSymbol& b) {
  return a.symbol == b.symbol && a.executor == b.executor &&
         std::equal(a.args.begin(), a.args.end(), b.args.begin(), b.args.end()) &&
         same_result_types(a.output, b.output);
}

// Each use has its own where eager computes gradients. With one for all, their gradients would be
// added before those of other uses of its operands, and in its own type if it is a cast.
bool has_gradient(const BoundSymbol& b) { return any_requires_grad(b.output); }

// Merging must not join what the caller could tell apart.
bool caller_could_tell(const Escapes& escapes, const Arg& a, const Arg& b) {
  if (a.is_collection()) {
    for (size_t i = 0; i < a.items().size(); ++i) {
      if (caller_could_tell(escapes, a.items()[i], b.items()[i])) return true;
    }
    return false;
  }
  const TensorProxy* x = a.tensor();
  const TensorProxy* y = b.tensor();
  if (!x || !y) return false;
  if (escapes.is_result(x) && escapes.is_result(y)) return true;
  return !x->alias_of && escapes.is_reachable(x) && escapes.is_reachable(y);
}

}  // namespace

Trace common_subexpression_elimination(const Trace& trace, PassContext& ctx) {
  Escapes escapes(trace);
  Substitution map;
  std::unordered_multimap<uint64_t, const BoundSymbol*> seen;
  seen.reserve(trace.body.size());
  std::vector<const BoundSymbol*> body;
  body.reserve(trace.body.size());
  for (const BoundSymbol* original : trace.body) {
    const BoundSymbol* b = apply_rebased(map, *trace.ctx, *original);
    if (b != original) escapes.join(b->output, original->output);
    // What stands before an effect (a change of grad mode, say) may differ from what stands after.
    if (b->symbol->has(kEffect)) seen.clear();
    if (!is_removable(*b->symbol) || has_gradient(*b)) {
      body.push_back(b);
      continue;
    }
    const uint64_t hash = hash_of_call(*b);
    const BoundSymbol* same = nullptr;
    const auto [first, last] = seen.equal_range(hash);
    for (auto it = first; it != last && !same; ++it) {
      if (same_call(*it->second, *b)) same = it->second;
    }
    if (same && !caller_could_tell(escapes, same->output, b->output) && ctx.take_fuel(b)) {
      escapes.join(same->output, b->output);
      map.bind(b->output, same->output);
      continue;
    }
    if (!same) seen.emplace(hash, b);
    body.push_back(b);
  }
  if (map.empty()) return trace;
  Trace out = trace;
  out.body = std::move(body);
  out.output = map.apply(*trace.ctx, trace.output);
  return out;
}

}  // namespace fulmen::passes
