#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fulmen::codegen::cpu {

enum class IsaLevel : uint8_t { kSse, kAvx2, kAvx512 };

// The instructions that kernels are generated for.
struct Isa {
  IsaLevel level = IsaLevel::kSse;
  std::string_view name = "sse";  // "sse", "avx2", "avx512", as FULMEN_ISA names them
  int width = 4;                  // lanes of a vector of float32
  std::string cpu = "x86-64-v2";  // as LLVM names it
};

// What this CPU has: AVX-512 (with BW, DQ, VL), else AVX2 with FMA and F16C, else SSE4.2; less if
// FULMEN_ISA asks for it. Throws UserError "unknown-flag" for a level that the CPU lacks.
Isa current_isa();

// The names of the levels that this CPU has, lowest first.
std::vector<std::string> known_isas();

}  // namespace fulmen::codegen::cpu
