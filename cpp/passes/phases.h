#pragma once

#include "ir/trace.h"

namespace fulmen::passes {

// The three traces that a program consists of, as transforms see them.
//   prologue:    checks the inputs' metadata; the printable form of the native input check.
//   computation: everything up to the write-backs; returns the tuple of values that the epilogue
//   needs. epilogue:    writes back to inputs, parameters and buffers, and returns the program's
//   result;
//                its inputs after the program's own are the computation's results, in order.
struct Phases {
  Trace prologue;
  Trace computation;
  Trace epilogue;
};

Phases split_phases(const Trace& trace);

// One program again. Throws UserError "broken-transform" when the computation no longer returns as
// many values as the epilogue takes.
Trace join_phases(const Trace& computation, const Trace& epilogue);

}  // namespace fulmen::passes
