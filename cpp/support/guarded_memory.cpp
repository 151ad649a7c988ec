#include "support/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <utility>

#include "support/flags.h"

namespace fulmen {
namespace {

size_t page_size() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

Guard guard_from_flags() {
  if (flag_has(Flag::kGuard, "start")) return Guard::kStart;
  return flag_has(Flag::kGuard, "end") ? Guard::kEnd : Guard::kNone;
}

GuardedMemory::GuardedMemory(size_t bytes, Guard where) : size_(bytes) {
  const size_t page = page_size(), inside = (bytes + page - 1) / page * page;
  mapped_ = inside + 2 * page;
  void* p = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<char*>(p);
  if (inside && mprotect(map_ + page, inside, PROT_READ | PROT_WRITE)) {
    munmap(map_, mapped_);
    throw std::bad_alloc();
  }
  data_ = map_ + page + (where == Guard::kEnd ? inside - bytes : 0);
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept
    : data_(other.data_),
      map_(std::exchange(other.map_, nullptr)),
      size_(other.size_),
      mapped_(other.mapped_) {}

GuardedMemory::~GuardedMemory() {
  if (map_) munmap(map_, mapped_);
}

void GuardedMemory::make_read_only() const {
  if (size_) mprotect(map_ + page_size(), mapped_ - 2 * page_size(), PROT_READ);
}

char* GuardedCopies::copy_of(char* memory, size_t bytes, bool written) {
  for (const Copy& c : copies_) {
    if (c.original == memory && c.written == written && c.memory.size() == bytes) {
      return c.memory.data();
    }
  }
  GuardedMemory copy(bytes, where_);
  if (bytes) std::memcpy(copy.data(), memory, bytes);
  if (!written) copy.make_read_only();
  copies_.push_back({memory, written, std::move(copy)});
  return copies_.back().memory.data();
}

void GuardedCopies::copy_back() const {
  for (const Copy& c : copies_) {
    if (c.written && c.memory.size()) std::memcpy(c.original, c.memory.data(), c.memory.size());
  }
}

}  // namespace fulmen
