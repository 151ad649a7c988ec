#pragma once

#include <vector>

#include "ir/proxy.h"

namespace fulmen {

// A dense map from the proxies of one TraceContext to T; T() where nothing was set.
template <class T>
class ProxyMap {
 public:
  T get(const Proxy* p) const { return p->id < values_.size() ? values_[p->id] : T(); }
  void set(const Proxy* p, T value) {
    if (p->id >= values_.size()) values_.resize(p->id + 1 + p->id / 2);
    values_[p->id] = value;
  }

 private:
  std::vector<T> values_;
};

}  // namespace fulmen
