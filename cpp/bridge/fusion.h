#pragma once

#include "ir/trace.h"

namespace fulmen::bridge {

// The trace with regions for generated kernels, where those are switched on; else itself.
Trace with_regions(const Trace& trace);

}  // namespace fulmen::bridge
