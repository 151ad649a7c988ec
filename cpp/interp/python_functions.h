// The interpreter's functions for Python, shared by every module that exposes them.
#pragma once
#include <Python.h>

namespace fulmen::interp {

// Adds interpret(), decode_text(), opcode_status() and last_counters() to `module`; false with an
// exception set.
bool add_functions(PyObject* module);

}  // namespace fulmen::interp
