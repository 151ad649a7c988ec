#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/cpu/isa.h"
#include "codegen/loop_program.h"

namespace fulmen::codegen::cpu {

// See Note [Kernel parameters].
using KernelFunction = void (*)(char* const* accesses, const int64_t* dims, const char* numbers,
                                char* scratch, int64_t begin, int64_t end);

struct Kernel {
  KernelFunction run = nullptr;
  int64_t microseconds = 0;  // that it took to compile
};

// The kernel for this program, compiled unless an equal one was before; safe from several threads.
// Null, with the reason in `why`, when it can't be compiled.
const Kernel* kernel_for(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                         const std::vector<bool>& float_numbers, std::string* why);

// Begins to generate it on another thread, for a kernel_for() to come.
void prepare_kernel(const LoopProgram& program, const Schedule& schedule, const Isa& isa,
                    const std::vector<bool>& float_numbers);

struct KernelCounts {
  int64_t compiled = 0;
  int64_t shared = 0;  // found in memory
  int64_t microseconds = 0;
  int64_t failed = 0;
};
KernelCounts kernel_counts();

// Counts, and says on stderr, that a region runs on ATen since its kernel could not be generated.
void note_failure(std::string_view why);

}  // namespace fulmen::codegen::cpu
