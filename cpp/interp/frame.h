// A frame that is being interpreted, and the thread's state around it.
#pragma once
#include <cstdint>

#include "interp/code.h"
#include "interp/hooks.h"
#include "interp/provenance.h"
#include "py/native_frame.h"

namespace fulmen::interp {

struct Frame;

// Counts of one Context, for stats and tests.
struct Counters {
  uint64_t frames = 0;       // frames interpreted
  uint64_t lookasides = 0;   // calls replaced by the interpreter's own
  uint64_t opaque = 0;       // C callables called through
  uint64_t refused = 0;      // Python functions left to CPython
  uint64_t intercepted = 0;  // frames that C code began and that were interpreted nevertheless
};

// The interpreter's state in one thread, from the outermost interpret() to its return. Contexts
// nest; threads share nothing.
struct Context {
  PyThreadState* thread = nullptr;
  Hooks* hooks = nullptr;  // null: emulate mode
  Context* outer = nullptr;
  Frame* root = nullptr;              // stands for the native caller of whatever is interpreted
  bool intercepts = false;            // see intercept.h
  bool runs_own = false;              // Python code of the interpreter's own runs natively
  const char* stack_limit = nullptr;  // below this address calls are left to CPython
  size_t stack_reserve = 0;           // bytes below stack_limit
  uint32_t ticks = 0;
  Counters counters;
};

// The Context of the running thread; null when nothing is interpreted in it.
Context* current_context();

inline uint64_t dict_version(PyObject* dict) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag;
#pragma GCC diagnostic pop
}

inline bool is_current(const GlobalCache& cache, PyObject* globals, PyObject* builtins) {
  return PyDict_CheckExact(globals) && dict_version(globals) == cache.globals_version &&
         PyDict_CheckExact(builtins) && dict_version(builtins) == cache.builtins_version;
}

// A scope in which Python code that native code calls is not intercepted.
class OwnCode {
 public:
  explicit OwnCode(Context* context) : context_(context), outer_(context->runs_own) {
    context->runs_own = true;
  }
  ~OwnCode() { context_->runs_own = outer_; }
  OwnCode(const OwnCode&) = delete;
  OwnCode& operator=(const OwnCode&) = delete;

 private:
  Context* context_;
  bool outer_;
};

// `locals` and the value stack are the record's slots. See Note [Native frames].
struct Frame {
  Context* context;
  Hooks* hooks;
  Code* code;
  py::NativeFrame* native;
  PyObject** locals;  // native->slots
  PyObject** stack;   // where the value stack begins
  PyObject** top;     // first free slot
  Prov** provs;       // parallel to `locals` and the stack; null in emulate mode
  Prov* function;     // provenance of the function that runs
  uint32_t pc;        // index of the running instruction
  Frame* caller;      // the interpreted frame below, or null

  Val local(int i) const { return {locals[i], provs ? provs[i] : nullptr}; }
  PyObject* globals() const { return native->globals; }
  PyObject* builtins() const { return native->builtins; }
  PyCodeObject* code_object() const { return code->object; }
};

}  // namespace fulmen::interp
