#pragma once

#include <cstdint>

namespace fulmen::bridge {

// Note [Recycled memory]
// A fresh tensor of some megabytes costs more than what is written to it: the kernel hands out
// zeroed pages one by one, ten times slower than memory is. So the memory of large tensors that
// programs make (results of generated kernels and of ATen's) comes from blocks that Fulmen keeps
// when such a tensor dies, wherever it dies. PyTorch's CPU allocator is wrapped: inside a program,
// on its thread, large requests take a block; all else goes to the allocator that was there before.
// Free blocks are kept as long as blocks in use and free ones together stay near the most that was
// in use lately, and below a quarter of the machine's memory.

// While it lives, large tensors that this thread makes take recycled memory.
class RecyclesMemory {
 public:
  // `active`: false changes nothing.
  explicit RecyclesMemory(bool active);
  ~RecyclesMemory();
  RecyclesMemory(const RecyclesMemory&) = delete;
  RecyclesMemory& operator=(const RecyclesMemory&) = delete;

 private:
  const bool before_;
};

struct MemoryCounts {
  int64_t used = 0;      // bytes of blocks that tensors hold
  int64_t kept = 0;      // bytes of free blocks
  int64_t fresh = 0;     // blocks that came from the system
  int64_t recycled = 0;  // blocks that were used again
};
MemoryCounts memory_counts();

// Gives all free blocks back to the system.
void release_kept_memory();

}  // namespace fulmen::bridge
