#pragma once

#include "ir/trace.h"

namespace fulmen {

// Whether autograd records something of the trace as it runs in order, or would refuse to: a leaf
// that is written in grad mode. A trace of which nothing is recorded may run without autograd.
bool is_recorded(const Trace& trace);

}  // namespace fulmen
