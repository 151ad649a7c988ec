#pragma once

#include <cstdint>

#include "ir/trace.h"

namespace fulmen {

// Bytes of a tensor's elements; a symbolic size counts as 64. Zero for what is no tensor.
int64_t bytes_of(const Proxy* p);

// How long a bound symbol takes, estimated: the larger of arithmetic and memory traffic at the
// rates of one CPU core, and the overhead of a call. Good for comparing, not for predicting.
// `fused`: a generated kernel runs pointwise operations, most of whose operands stay in caches.
double estimated_seconds(const BoundSymbol& bsym, bool fused);

}  // namespace fulmen
