// Single instructions that CPython runs for us.
#pragma once
#include "interp/protocol.h"

namespace fulmen::interp {

// Runs the bytecode `opcode arg` of this Python on up to two operands, in a function whose globals
// are the frame's. Null with an exception set. For the few instructions whose work no function of
// libpython offers.
PyObject* native_instruction(Frame& frame, int opcode, int arg, PyObject* a, PyObject* b);

}  // namespace fulmen::interp
