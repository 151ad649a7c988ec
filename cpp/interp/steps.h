// Iterators of builtin types whose next item needs calls of Python code (map, filter, zip, ...).
//
// The objects stay CPython's own, with their state where CPython keeps it; only the step to the
// next item is done here, so that what it calls is interpreted. Either side may take any step.
#pragma once
#include "interp/protocol.h"

namespace fulmen::interp {

using Step = int (*)(Frame& frame, Val iterator,
                     Val* result);  // as next(); StopIteration may be set

// Compares the layout of these iterators; where it differs there are no steps.
bool init_steps();

// Null for a type that has none.
Step has_step(PyTypeObject* type);

}  // namespace fulmen::interp
