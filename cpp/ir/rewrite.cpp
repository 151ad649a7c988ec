#include "ir/rewrite.h"

#include "support/error.h"

namespace fulmen {

void Substitution::add(const Proxy* from, Arg to) {
  if (to.is_proxy() && to.proxy() == from) return;
  map_[from] = to;
}

void Substitution::bind(const Arg& from, const Arg& to) {
  if (from.is_proxy()) return add(from.proxy(), to);
  if (!from.is_collection()) return;
  if (!to.is_collection() || from.items().size() != to.items().size()) {
    internal_error("substitution between different structures");
  }
  for (size_t i = 0; i < from.items().size(); ++i) bind(from.items()[i], to.items()[i]);
}

Arg Substitution::apply(TraceContext& ctx, const Arg& a) const {
  if (a.is_proxy()) {
    Arg current = a;
    while (current.is_proxy()) {
      const auto it = map_.find(current.proxy());
      if (it == map_.end()) break;
      current = it->second;
    }
    return current;
  }
  if (!a.is_collection()) return a;
  Args items;
  bool changed = false;
  for (const Arg& item : a.items()) {
    const Arg mapped = apply(ctx, item);
    changed = changed || !(mapped == item);
    items.push_back(mapped);
  }
  return changed ? ctx.make_collection(a.kind(), items) : a;
}

const BoundSymbol* Substitution::apply(TraceContext& ctx, const BoundSymbol& bsym) const {
  if (map_.empty()) return &bsym;
  Args args;
  bool changed = false;
  for (const Arg& a : bsym.args) {
    const Arg mapped = apply(ctx, a);
    changed = changed || !(mapped == a);
    args.push_back(mapped);
  }
  const Arg output = apply(ctx, bsym.output);
  changed = changed || !(output == bsym.output);
  if (!changed) return &bsym;
  BoundSymbol* copy = ctx.make_bound_symbol(*bsym.symbol, args, output, bsym.source);
  copy->executor = bsym.executor;
  return copy;
}

}  // namespace fulmen
