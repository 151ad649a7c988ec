#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fulmen {

enum class Guard : uint8_t { kNone, kStart, kEnd };
// What FULMEN_GUARD says.
Guard guard_from_flags();

// Memory between two pages that end the process when they are touched; it begins behind the first
// one (kStart) or ends before the second (kEnd).
class GuardedMemory {
 public:
  GuardedMemory(size_t bytes, Guard where);
  ~GuardedMemory();
  GuardedMemory(GuardedMemory&& other) noexcept;
  GuardedMemory& operator=(GuardedMemory&&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  void make_read_only() const;

 private:
  char* data_ = nullptr;
  char* map_ = nullptr;
  size_t size_ = 0, mapped_ = 0;
};

// Guarded copies of tensors' memory for one call of a kernel.
class GuardedCopies {
 public:
  explicit GuardedCopies(Guard where) : where_(where) {}

  // The copy that stands for `memory`; writing to it is an error unless it is `written` to.
  char* copy_of(char* memory, size_t bytes, bool written);
  void copy_back() const;

 private:
  struct Copy {
    char* original;
    bool written;
    GuardedMemory memory;
  };
  const Guard where_;
  std::vector<Copy> copies_;
};

}  // namespace fulmen
