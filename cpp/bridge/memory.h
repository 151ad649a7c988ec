#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "exec/compilation.h"
#include "ir/trace.h"

namespace fulmen::bridge {

// A program of a call, with bytes above what there was before the call.
struct MemoryStage {
  std::string name;
  int64_t peak;  // while it runs
  int64_t end;   // when it has run
};

// What a call of a compiled program allocates: its forward, whose results are kept, and the
// backward of each of its regions, the last one first. Gradients are asked for by the scalar
// results, if there are any that have one; else by all. Gradients of inputs are kept.
std::vector<MemoryStage> predicted_memory(const Trace& trace, const exec::Compilation& compilation);

}  // namespace fulmen::bridge
