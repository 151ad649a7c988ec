#pragma once

#include "analysis/proxy_map.h"
#include "ir/trace.h"

namespace fulmen::passes {

// Which tensors the caller sees after the program has run. A pass that makes two tensors share
// storage or identity must ask here first.
class Escapes {
 public:
  explicit Escapes(const Trace& trace);

  // `p` itself is a result of the program.
  bool is_result(const Proxy* p) const { return results_.get(p); }
  // The storage of `t` is reachable from a result, or may be through an opaque symbol.
  bool is_reachable(const TensorProxy* t) const { return reachable_.get(storage_of(t)); }
  // The storage of `t` belongs to an input that a write-back writes.
  bool is_written(const TensorProxy* t) const { return written_.get(storage_of(t)); }
  // The tensors of `kept` now stand for those of `dropped` as well.
  void join(const Arg& kept, const Arg& dropped);

 private:
  ProxyMap<bool> results_;
  ProxyMap<bool> reachable_;
  ProxyMap<bool> written_;
};

}  // namespace fulmen::passes
