// Python code that C code calls: key functions, __hash__, generators in itertools, ...
//
// While a thread intercepts, CPython's frame evaluation hook hands such frames to the interpreter.
// The hook is one for all threads; those that do not intercept go on as before.
#pragma once

namespace fulmen::interp {

void begin_intercepting();
void end_intercepting();

// A scope without the hook. CPython runs calls of Python functions without C stack only then.
class InterceptionPaused {
 public:
  InterceptionPaused();
  ~InterceptionPaused();
  InterceptionPaused(const InterceptionPaused&) = delete;
  InterceptionPaused& operator=(const InterceptionPaused&) = delete;
};

}  // namespace fulmen::interp
