// Leaving the straight way through a frame: exceptions, and the pauses that CPython's own loop
// makes.
#pragma once
#include "interp/frame.h"

namespace fulmen::interp {

// Finds the handler for the current exception at frame.pc. True: frame.pc and frame.top are set to
// run it, with the exception on the stack. False: there is none, and the value stack is empty.
bool enter_handler(Frame& frame);

// CPython's loop lets other threads, signal handlers, pending calls and (since 3.12) the garbage
// collector in at calls and backward jumps. tick() does the same; false if a signal handler raised.
inline constexpr uint32_t kTickMask = 127;
bool tick(Context* context);
bool init_tick();

}  // namespace fulmen::interp
