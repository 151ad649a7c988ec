#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "ir/trace.h"

namespace fulmen {

// Follows what programs allocate and free: bytes of tensors' storages, above what there was before.
// What operators allocate for themselves while they run is not known here.
class MemoryUse {
 public:
  int64_t now() const { return now_; }
  int64_t peak() const { return peak_; }
  // Forgets the peak so far.
  void restart() { peak_ = now_; }

  // A value that somebody keeps or begins to keep; memory is counted once for each storage.
  void hold(const Proxy* p);
  // The value is kept by one less; the storage is free when nobody keeps any of its values.
  void drop(const Proxy* p);
  // Memory of no value, which stays.
  void add(int64_t bytes);
  // A value that belongs to somebody else, and is not counted.
  void ignore(const Proxy* p);

  // Runs a claimed program with deletions: its inputs are there. Afterwards what it returns is
  // held, and what it still has, and does not return, is dropped. `consumes`: it also drops its
  // inputs as it deletes them, which must be held.
  void run(std::span<const Proxy* const> inputs, std::span<const BoundSymbol* const> body,
           const Arg& output, bool consumes);

 private:
  std::unordered_map<const Proxy*, int> holders_;  // by storage
  std::unordered_set<const Proxy*> ignored_;       // storages
  int64_t now_ = 0;
  int64_t peak_ = 0;
};

}  // namespace fulmen
