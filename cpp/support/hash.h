#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace fulmen {

// A 64-bit hash that is stable between processes and machines.
class Hasher {
 public:
  Hasher& add(uint64_t v) {
    state_ ^= v + 0x9e3779b97f4a7c15ull + (state_ << 6) + (state_ >> 2);
    state_ *= 0xff51afd7ed558ccdull;
    state_ ^= state_ >> 33;
    return *this;
  }
  Hasher& add(std::string_view s) {
    add(static_cast<uint64_t>(s.size()));
    while (!s.empty()) {
      uint64_t word = 0;
      const size_t n = s.size() < 8 ? s.size() : 8;
      std::memcpy(&word, s.data(), n);
      add(word);
      s.remove_prefix(n);
    }
    return *this;
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0x2545f4914f6cdd1dull;
};

}  // namespace fulmen
