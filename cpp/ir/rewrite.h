#pragma once

#include <unordered_map>

#include "ir/trace.h"

namespace fulmen {

// `a` with every proxy p replaced by f(p), an Arg. `a` itself when nothing changes.
template <class F>
Arg map_proxies(TraceContext& ctx, const Arg& a, F&& f) {
  if (a.is_proxy()) return f(a.proxy());
  if (!a.is_collection()) return a;
  Args items;
  bool changed = false;
  for (const Arg& item : a.items()) {
    items.push_back(map_proxies(ctx, item, f));
    changed = changed || !(items.back() == item);
  }
  return changed ? ctx.make_collection(a.kind(), items) : a;
}

// A renaming of proxies, applied to arguments and bound symbols. Chains are followed: after
// a → b and b → c, a becomes c.
class Substitution {
 public:
  bool empty() const { return map_.empty(); }
  void add(const Proxy* from, Arg to);
  // Maps every proxy of `from` to what stands at the same place in `to`.
  void bind(const Arg& from, const Arg& to);

  Arg apply(TraceContext& ctx, const Arg& a) const;
  // The same bound symbol when nothing in it changes.
  const BoundSymbol* apply(TraceContext& ctx, const BoundSymbol& bsym) const;

 private:
  std::unordered_map<const Proxy*, Arg> map_;
};

}  // namespace fulmen
