#pragma once

#include <cstdint>

#include "ir/trace.h"

namespace fulmen {

// Depends on what the trace computes and how (symbols, arguments, types, aliasing, executors), not
// on the names of values and symbolic sizes, source lines, trace name or provenance. The same in
// every process.
uint64_t hash(const Trace& trace);

enum class CompareNames : bool { kNo, kYes };

// Whether the traces are the same in the sense of `hash`; with kYes also in the names of their
// values.
bool equal(const Trace& a, const Trace& b, CompareNames names = CompareNames::kNo);

}  // namespace fulmen
