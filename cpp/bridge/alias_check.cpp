#include "bridge/alias_check.h"

#include <unordered_map>

#include "ir/proxy.h"
#include "ir/write_back.h"

namespace fulmen::bridge {

AliasCheck::AliasCheck(const Trace& trace) {
  std::unordered_map<const Proxy*, size_t> index;
  for (size_t i = 0; i < trace.inputs.size(); ++i) index.emplace(trace.inputs[i], i);
  std::vector<bool> is_written(trace.inputs.size());
  const auto write = [&](const Arg& a) {
    for_each_proxy(a, [&](const Proxy* p) {
      const auto it = index.find(storage_of(p));
      if (it != index.end()) is_written[it->second] = true;
    });
  };
  for (const BoundSymbol* b : trace.body) {
    for_each_written(*b, write);
  }
  for (size_t i = 0; i < is_written.size(); ++i) {
    if (is_written[i]) written_.push_back(i);
  }
  // Inputs that the trace knows to share storage have one group number.
  std::unordered_map<const Proxy*, size_t> set_of;
  for (size_t s = 0; s < trace.alias_groups.size(); ++s) {
    for (const Proxy* p : trace.alias_groups[s]) set_of.emplace(p, s);
  }
  const auto share = [&](size_t a, size_t b) {
    if (a == b) return true;
    const auto x = set_of.find(trace.inputs[a]), y = set_of.find(trace.inputs[b]);
    return x != set_of.end() && y != set_of.end() && x->second == y->second;
  };
  group_.assign(trace.inputs.size(), -1);
  for (size_t i = 0; i < trace.inputs.size(); ++i) {
    for (size_t w = 0; w < written_.size() && group_[i] < 0; ++w) {
      if (share(i, written_[w])) group_[i] = static_cast<int>(w);
    }
  }
}

bool AliasCheck::accepts(const std::vector<const void*>& storages) const {
  std::unordered_map<const void*, int> first;
  first.reserve(written_.size());
  for (size_t w = 0; w < written_.size(); ++w) {
    first.emplace(storages[written_[w]], static_cast<int>(w));
  }
  for (size_t i = 0; i < storages.size(); ++i) {
    if (!storages[i]) continue;
    const auto it = first.find(storages[i]);
    if ((it == first.end() ? -1 : it->second) != group_[i]) return false;
  }
  return true;
}

}  // namespace fulmen::bridge
