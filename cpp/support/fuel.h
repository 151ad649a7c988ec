#pragma once

#include <cstdint>
#include <mutex>
#include <string>

namespace fulmen {

// How many rewrites and claims may still be made: what bisection turns to find the one that breaks
// a result. Shared by everything that one function compiles, its backwards too; safe from several
// threads.
class Fuel {
 public:
  // Negative: any number.
  explicit Fuel(int64_t limit) : limit_(limit) {}

  // False once `limit` were taken. `what()` names what is done with it; it is asked of the last.
  template <class F>
  bool take(F&& what) {
    const std::lock_guard lock(mutex_);
    if (limit_ >= 0 && taken_ >= limit_) return false;
    if (++taken_ == limit_) last_ = what();
    return true;
  }
  bool empty() const {
    const std::lock_guard lock(mutex_);
    return limit_ >= 0 && taken_ >= limit_;
  }
  int64_t taken() const {
    const std::lock_guard lock(mutex_);
    return taken_;
  }
  // What the last one that there was, of a limited number, was taken for.
  std::string last() const {
    const std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  const int64_t limit_;
  mutable std::mutex mutex_;
  int64_t taken_ = 0;
  std::string last_;
};

}  // namespace fulmen
