// Python code that C code calls: key functions, __hash__, generators in itertools, ...
//
// While a thread intercepts, CPython's frame evaluation hook hands such frames to the interpreter.
// The hook is one for all threads; those that do not intercept go on as before.
#pragma once

namespace fulmen::interp {

struct Context;

void begin_intercepting();
void end_intercepting();

// A scope in which CPython goes on alone because the C stack is short: without the hook, since only
// then do its calls of Python functions need no C stack, and with recursion in C limited to what is
// left.
class ShortStack {
 public:
  explicit ShortStack(Context* context);
  ~ShortStack();
  ShortStack(const ShortStack&) = delete;
  ShortStack& operator=(const ShortStack&) = delete;

 private:
  [[maybe_unused]] Context* context_;
  [[maybe_unused]] int saved_ = 0;
};

}  // namespace fulmen::interp
