#include "codegen/cpu/isa.h"

#include "support/cat.h"
#include "support/error.h"
#include "support/flags.h"

namespace fulmen::codegen::cpu {
namespace {

const Isa kLevels[] = {{IsaLevel::kSse, "sse", 4, "x86-64-v2"},
                       {IsaLevel::kAvx2, "avx2", 8, "x86-64-v3"},
                       {IsaLevel::kAvx512, "avx512", 16, "x86-64-v4"}};

IsaLevel best_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return IsaLevel::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return IsaLevel::kAvx2;
#endif
  return IsaLevel::kSse;
}

}  // namespace

Isa current_isa() {
  static const IsaLevel best = best_level();
  const std::string wanted = flag_text(Flag::kIsa);
  for (const Isa& isa : kLevels) {
    if (wanted.empty() ? isa.level != best : isa.name != wanted) continue;
    if (isa.level <= best) return isa;
    throw UserError(ErrorKind::kValue, "unknown-flag",
                    cat("FULMEN_ISA=", wanted, ": this CPU has no more than ",
                        kLevels[static_cast<int>(best)].name));
  }
  throw UserError(ErrorKind::kValue, "unknown-flag",
                  cat("FULMEN_ISA: got '", wanted, "'; known: sse, avx2, avx512"));
}

std::vector<std::string> known_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kLevels) {
    if (isa.level <= best_level()) names.emplace_back(isa.name);
  }
  return names;
}

}  // namespace fulmen::codegen::cpu
