#pragma once

namespace fulmen::codegen::cpu {

// Functions of one element that kernels call for what has no vector form: `fulmen_digamma`,
// `fulmen_erfinv` (double), `fulmen_pow_i64`. Null for another name.
void* find_scalar_function(const char* name);

}  // namespace fulmen::codegen::cpu
