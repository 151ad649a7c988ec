#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace fulmen {

// Bump allocation for objects that live as long as their trace. Not thread-safe.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    for (auto it = destructors_.rbegin(); it != destructors_.rend(); ++it) it->second(it->first);
  }

  void* allocate(size_t bytes, size_t align = alignof(std::max_align_t)) {
    auto at = (reinterpret_cast<uintptr_t>(next_) + align - 1) & ~(align - 1);
    if (at + bytes > reinterpret_cast<uintptr_t>(end_)) {
      const size_t block = bytes + align > kBlock ? bytes + align : kBlock;
      blocks_.push_back(std::make_unique<std::byte[]>(block));
      next_ = blocks_.back().get();
      end_ = next_ + block;
      at = (reinterpret_cast<uintptr_t>(next_) + align - 1) & ~(align - 1);
    }
    next_ = reinterpret_cast<std::byte*>(at + bytes);
    return reinterpret_cast<void*>(at);
  }

  template <class T, class... A>
  T* make(A&&... args) {
    T* p = new (allocate(sizeof(T), alignof(T))) T(std::forward<A>(args)...);
    if constexpr (!std::is_trivially_destructible_v<T>) {
      destructors_.emplace_back(p, [](void* q) { static_cast<T*>(q)->~T(); });
    }
    return p;
  }

  template <class T>
  std::span<const T> copy(std::span<const T> v) {
    using Value = std::remove_const_t<T>;
    static_assert(std::is_trivially_copyable_v<Value>);
    if (v.empty()) return {};
    auto* p = static_cast<Value*>(allocate(v.size_bytes(), alignof(Value)));
    std::uninitialized_copy(v.begin(), v.end(), p);
    return {p, v.size()};
  }

  std::string_view copy(std::string_view s) {
    char* p = static_cast<char*>(allocate(s.size(), 1));
    s.copy(p, s.size());
    return {p, s.size()};
  }

 private:
  static constexpr size_t kBlock = 1 << 16;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  std::vector<std::pair<void*, void (*)(void*)>> destructors_;
};

}  // namespace fulmen
