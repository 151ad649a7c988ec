#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "exec/compilation.h"

namespace fulmen::exec {

// How the bridge handles slots that outlive one kernel.
struct SlotOps {
  void (*destroy)(Slot* slot);  // leaves the slot empty
};

// A compiled trace: a flat list of kernels over numbered slots. Slots 0 … inputs-1 are the inputs.
// Immutable after build; any number of threads may run it at once, each in a frame of its own.
class Program {
 public:
  // `trace` is claimed (transform_for_execution). Throws InternalError for an unclaimed bound
  // symbol.
  static std::shared_ptr<const Program> build(const Trace& trace,
                                              std::shared_ptr<const Compilation> compilation,
                                              const SlotOps& ops);
  ~Program();

  size_t num_inputs() const { return num_inputs_; }
  size_t num_instructions() const { return kernels_.size(); }
  const Trace& trace() const { return trace_; }
  // Whether an executor could make regions of it.
  bool makes_regions() const { return makes_regions_; }
  const Compilation& compilation() const { return *compilation_; }
  // Where the result is: proxies' slots through slot_of.
  const Arg& output() const { return trace_.output; }
  std::span<const uint32_t> output_slots() const { return output_slots_; }

  // A frame from the pool, all slots empty.
  Slot* acquire_frame() const;
  // Destroys what the slots hold and gives the frame back.
  void release_frame(Slot* frame) const;
  // Runs all kernels. On an exception the slots keep what was computed so far, and `failed_at` is
  // the bound symbol that threw.
  void run(Slot* frame, const BoundSymbol** failed_at) const;

 private:
  Program() = default;

  struct Instruction {
    std::unique_ptr<Kernel> kernel;  // null: only frees
    const BoundSymbol* bsym;
    uint32_t first_free;
    uint32_t num_frees;
  };

  std::shared_ptr<const Compilation> compilation_;  // keeps the executors alive
  Trace trace_;                                     // keeps the bound symbols alive
  SlotOps ops_{};
  size_t num_inputs_ = 0;
  size_t num_slots_ = 0;
  bool makes_regions_ = false;
  std::vector<Instruction> kernels_;
  std::vector<uint32_t> frees_;
  std::vector<uint32_t> output_slots_;  // of the proxies in the output, in order
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Slot[]>> frames_;
};

// A frame of a program, for one run.
class Frame {
 public:
  explicit Frame(const Program& program) : program_(program), slots_(program.acquire_frame()) {}
  ~Frame() { program_.release_frame(slots_); }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  Slot& operator[](size_t i) { return slots_[i]; }
  Slot* slots() { return slots_; }

 private:
  const Program& program_;
  Slot* slots_;
};

}  // namespace fulmen::exec
