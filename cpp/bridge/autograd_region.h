#pragma once

#include "exec/compilation.h"
#include "ir/trace.h"

namespace fulmen::bridge {

// Whether a program keeps its inputs to its end, or drops each after its last use. kRecorded: it
// keeps them, and runs under PyTorch's autograd.
enum class Inputs : uint8_t { kKept, kConsumed, kRecorded };

// The program of a region's backward, or the like, claimed and with deletions.
Trace executable(const Trace& trace, Inputs inputs, const exec::Compilation& compilation,
                 exec::ClaimReport& report);

}  // namespace fulmen::bridge
