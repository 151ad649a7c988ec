#pragma once

#include "ir/trace.h"

namespace fulmen {

// Checks what every pass relies on: each value is defined once, before its uses, and not used after
// its `del`; arguments fit the schema; metadata equals what the symbol's meta gives; alias_of names
// a value in scope; a functional trace writes in place only to inputs, at its end. Throws
// InternalError with the lines around the mistake.
void verify(const Trace& trace);

}  // namespace fulmen
