// The entry to the interpreter.
#pragma once
#include "interp/frame.h"

namespace fulmen::interp {

// Prepares the interpreter for the running Python; false with an exception set. Cheap when done.
bool init();

// A scope in which a thread interprets. The outermost frame has no code; it stands for the caller.
class Session {
 public:
  // With `intercept`, Python code that C code calls is interpreted too.
  Session(Hooks* hooks, bool intercept);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Frame& frame() { return frame_; }
  const Counters& counters() const { return context_.counters; }

 private:
  Context context_;
  Frame frame_;
};

// Calls `callee` in emulate mode. Owned result, or null with an exception set. `counters` may be
// null.
PyObject* interpret(PyObject* callee, PyObject* const* args, Py_ssize_t count, PyObject* names,
                    bool intercept, Counters* counters);

}  // namespace fulmen::interp
