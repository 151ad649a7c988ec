#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codegen/cpu/kernel_cache.h"
#include "codegen/loop_program.h"
#include "ir/trace.h"
#include "passes/partition.h"

namespace fulmen::codegen::cpu {

// A loop program as a kernel with everything that its launches need. Immutable.
class CompiledLoops {
 public:
  static std::optional<CompiledLoops> compile(LoopProgram program,
                                              const std::vector<bool>& float_numbers,
                                              std::string* why);

  const LoopProgram& program() const { return program_; }
  const Kernel& kernel() const { return *kernel_; }

  // How many units of work a launch has; 0 when there are no results to write.
  int64_t units() const { return units_; }
  // How many of them are worth a thread of their own.
  int64_t grain() const { return grain_; }
  size_t scratch_bytes() const { return scratch_bytes_; }

  // `accesses`: see Note [Kernel parameters]. `scratch`: scratch_bytes() of this thread's, aligned
  // to 64.
  void run(char* const* accesses, const char* numbers, char* scratch, int64_t begin,
           int64_t end) const {
    kernel_->run(accesses, dims_.data(), numbers, scratch, begin, end);
  }

 private:
  LoopProgram program_;
  Schedule schedule_;
  const Kernel* kernel_ = nullptr;
  std::vector<int64_t> dims_;
  int64_t units_ = 0;
  int64_t grain_ = 1;
  size_t scratch_bytes_ = 0;
};

// A region as kernels, one for each part of its elements.
class CompiledRegion {
 public:
  // Nothing, with the reason in `why`, for a region that is not one nest of loops, or without LLVM.
  static std::optional<CompiledRegion> compile(const Trace& region, std::string* why);

  // Whether it is one nest of loops, or the reason why not; nothing is compiled.
  static std::string refusal(const Trace& region);
  // Begins to compile it on another thread, for a compile() to come.
  static void prepare(const Trace& region);

  const std::vector<CompiledLoops>& parts() const { return parts_; }

 private:
  std::vector<CompiledLoops> parts_;
};

// What the partition asks of this compiler, for traces of one context.
passes::FusionRules fusion_rules(const std::shared_ptr<TraceContext>& ctx);

// How the loops are walked on machines with `width` lanes.
Schedule schedule_for(const LoopProgram& program, int width);

}  // namespace fulmen::codegen::cpu
