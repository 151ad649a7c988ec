#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <type_traits>

namespace fulmen {

// A vector of trivially copyable T that keeps up to N elements in place.
template <class T, size_t N>
class SmallVec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using value_type = T;

  SmallVec() = default;
  SmallVec(std::initializer_list<T> v) { assign(v.begin(), v.size()); }
  explicit SmallVec(std::span<const T> v) { assign(v.data(), v.size()); }
  SmallVec(size_t n, const T& v) { resize(n, v); }
  SmallVec(const SmallVec& o) { assign(o.data(), o.size()); }
  SmallVec(SmallVec&& o) noexcept { steal(o); }
  SmallVec& operator=(const SmallVec& o) {
    if (this != &o) assign(o.data(), o.size());
    return *this;
  }
  SmallVec& operator=(SmallVec&& o) noexcept {
    if (this != &o) {
      release();
      steal(o);
    }
    return *this;
  }
  ~SmallVec() { release(); }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* data() { return heap_ ? heap_ : reinterpret_cast<T*>(inline_); }
  const T* data() const { return heap_ ? heap_ : reinterpret_cast<const T*>(inline_); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  T& back() { return data()[size_ - 1]; }
  const T& back() const { return data()[size_ - 1]; }
  operator std::span<const T>() const { return {data(), size_}; }

  void reserve(size_t n) {
    if (n <= capacity_) return;
    n = std::max<size_t>(n, 2 * capacity_);
    T* p = static_cast<T*>(::operator new(n * sizeof(T)));
    std::memcpy(static_cast<void*>(p), data(), size_ * sizeof(T));
    if (heap_) ::operator delete(heap_);
    heap_ = p;
    capacity_ = static_cast<uint32_t>(n);
  }
  void push_back(T v) {
    reserve(size_ + 1);
    new (data() + size_++) T(v);
  }
  void pop_back() { --size_; }
  void clear() { size_ = 0; }
  // New elements have no particular value.
  void resize_for_overwrite(size_t n) {
    reserve(n);
    size_ = static_cast<decltype(size_)>(n);
  }
  void resize(size_t n, const T& v = T()) {
    reserve(n);
    for (size_t i = size_; i < n; ++i) new (data() + i) T(v);
    size_ = static_cast<uint32_t>(n);
  }
  void insert(size_t at, T v) {
    push_back(v);
    std::rotate(begin() + at, end() - 1, end());
  }
  void erase(size_t at) {
    std::copy(begin() + at + 1, end(), begin() + at);
    --size_;
  }
  friend bool operator==(const SmallVec& a, const SmallVec& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  void assign(const T* p, size_t n) {
    size_ = 0;
    reserve(n);
    if (n) std::memcpy(static_cast<void*>(data()), p, n * sizeof(T));
    size_ = static_cast<uint32_t>(n);
  }
  void steal(SmallVec& o) {
    heap_ = o.heap_;
    size_ = o.size_;
    capacity_ = o.capacity_;
    if (!heap_) std::memcpy(inline_, o.inline_, sizeof inline_);
    o.heap_ = nullptr;
    o.size_ = 0;
    o.capacity_ = N;
  }
  void release() {
    if (heap_) ::operator delete(heap_);
    heap_ = nullptr;
    capacity_ = N;
  }

  alignas(T) unsigned char inline_[N * sizeof(T)];
  T* heap_ = nullptr;
  uint32_t size_ = 0;
  uint32_t capacity_ = N;
};

}  // namespace fulmen
