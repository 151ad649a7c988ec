#pragma once

#include <vector>

#include "ir/trace.h"

namespace fulmen::bridge {

// A trace that writes to an input is valid only for the sharing of storage that it was compiled
// with: this compares, for each input, which written input it shares storage with.
class AliasCheck {
 public:
  explicit AliasCheck(const Trace& trace);

  const std::vector<size_t>& written() const { return written_; }
  bool trivial() const { return written_.empty(); }
  // `storages`: the identity of each input's storage, null for what is no tensor.
  bool accepts(const std::vector<const void*>& storages) const;

 private:
  std::vector<size_t> written_;  // indices of inputs that the trace writes
  std::vector<int> group_;       // for each input: index into written_ of its first alias, or -1
};

}  // namespace fulmen::bridge
