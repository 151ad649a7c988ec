#pragma once

#include <unordered_map>

#include "ir/trace.h"

namespace fulmen {

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
