#include "bridge/recycled_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <unordered_map>

namespace fulmen::bridge {
namespace {

constexpr size_t kLeast = 256 << 10;   // smaller tensors go the usual way
constexpr size_t kHugePage = 2 << 20;  // blocks of at least twice this are made of huge pages
constexpr size_t kSlack = 64 << 20;    // what may be kept beyond the most that was in use
constexpr int64_t kWindow = 2048;      // requests after which "lately" begins anew
constexpr size_t kPage = 4096;

thread_local bool recycles = false;

struct Block {
  char* memory = nullptr;
  size_t size = 0;
  int64_t last_use = 0;
};

// Eight sizes for each doubling: at most an eighth of a block is waste.
size_t block_size(size_t bytes) {
  const size_t step = std::max(std::bit_floor(bytes) / 8, kPage);
  return (bytes + step - 1) / step * step;
}

char* map_memory(size_t size) {
  const size_t alignment = size >= 2 * kHugePage ? kHugePage : kPage;
  const size_t reserved = size + alignment - kPage;
  void* p = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(p);
  const auto address = reinterpret_cast<uintptr_t>(start);
  char* const memory = start + ((address + alignment - 1) / alignment * alignment - address);
  if (memory != start) munmap(start, static_cast<size_t>(memory - start));
  char* const end = memory + size;
  if (end != start + reserved) munmap(end, static_cast<size_t>(start + reserved - end));
  if (alignment == kHugePage) madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

class Pool {
 public:
  static Pool& get() {
    static Pool* pool = new Pool;  // tensors may outlive static objects
    return *pool;
  }

  // Null when the system has no more.
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (++requests_ % kWindow == 0) {
      most_before_ = most_now_;
      most_now_ = used_;
    }
    Block block;
    const size_t size = block_size(bytes);
    // A block that is larger by half does as well.
    const auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first <= size + size / 2) {
      block = found->second;
      free_.erase(found);
      kept_ -= block.size;
      ++recycled_;
    } else {
      trim(limit(size));
      block = {map_memory(size), size, 0};
      if (!block.memory) {
        trim(0);
        block.memory = map_memory(size);
      }
      if (!block.memory) return nullptr;
      ++fresh_;
    }
    used_ += block.size;
    most_now_ = std::max(most_now_, used_);
    used_blocks_.emplace(block.memory, block);
    return block.memory;
  }

  void give_back(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto found = used_blocks_.find(memory);
    Block block = found->second;
    used_blocks_.erase(found);
    used_ -= block.size;
    kept_ += block.size;
    block.last_use = requests_;
    free_.emplace(block.size, block);
    trim(limit(0));
  }

  bool owns(void* memory) {
    const std::lock_guard lock(mutex_);
    return used_blocks_.contains(memory);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    most_now_ = most_before_ = used_;
    trim(0);
  }

  MemoryCounts counts() {
    const std::lock_guard lock(mutex_);
    return {static_cast<int64_t>(used_), static_cast<int64_t>(kept_), fresh_, recycled_};
  }

 private:
  Pool() {
    const auto memory = static_cast<size_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) * kPage;
    most_kept_ = memory / 4;
    pthread_atfork([] { get().mutex_.lock(); }, [] { get().mutex_.unlock(); },
                   [] { get().mutex_.unlock(); });
  }

  // How much may be kept beside what is in use, and `more`.
  size_t limit(size_t more) const {
    const size_t most = std::max(most_now_, most_before_);
    const size_t allowed = most + std::max(most / 4, kSlack), used = used_ + more;
    return std::min(most_kept_, allowed > used ? allowed - used : 0);
  }

  // Gives back what was free the longest until no more than `allowed` is kept.
  void trim(size_t allowed) {
    while (kept_ > allowed) {
      const auto oldest = std::min_element(free_.begin(), free_.end(), [](auto& a, auto& b) {
        return a.second.last_use < b.second.last_use;
      });
      munmap(oldest->second.memory, oldest->second.size);
      kept_ -= oldest->second.size;
      free_.erase(oldest);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, Block> free_;
  std::unordered_map<void*, Block> used_blocks_;
  size_t used_ = 0, kept_ = 0, most_now_ = 0, most_before_ = 0, most_kept_ = 0;
  int64_t requests_ = 0, fresh_ = 0, recycled_ = 0;
};

c10::Allocator* plain_allocator = nullptr;  // that was there before

void give_back(void* memory) {
  c10::profiledCPUMemoryReporter().Delete(memory);
  Pool::get().give_back(memory);
}

class RecyclingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (recycles && bytes >= kLeast) {
      if (void* memory = Pool::get().take(bytes)) {
        c10::profiledCPUMemoryReporter().New(memory, bytes);
        return {memory, memory, &give_back, c10::Device(c10::kCPU)};
      }
    }
    return plain_allocator->allocate(bytes);
  }

  c10::DeleterFnPtr raw_deleter() const override {
    if (!plain_allocator->raw_deleter()) return nullptr;
    return [](void* memory) {
      if (Pool::get().owns(memory)) return give_back(memory);
      plain_allocator->raw_deleter()(memory);
    };
  }

  bool is_simple_data_ptr(const c10::DataPtr& data) const override {
    return plain_allocator->is_simple_data_ptr(data);
  }

  void copy_data(void* to, const void* from, size_t count) const override {
    default_copy_data(to, from, count);
  }
};

bool wrap_allocator() {
  plain_allocator = c10::GetCPUAllocator();
  c10::SetCPUAllocator(new RecyclingAllocator);
  return true;
}

}  // namespace

RecyclesMemory::RecyclesMemory(bool active) : before_(recycles) {
  if (!active) return;
  static const bool wrapped = wrap_allocator();
  recycles = wrapped;
}
RecyclesMemory::~RecyclesMemory() { recycles = before_; }

MemoryCounts memory_counts() { return Pool::get().counts(); }
void release_kept_memory() { Pool::get().release(); }

}  // namespace fulmen::bridge
