// CPython's own frame records, which interpreted frames are made of.
//
// Note [Native frames]
// A frame that the interpreter runs is a record of the layout that CPython gives its frames, linked
// into the thread's chain of frames, with locals and value stack where CPython keeps them. So
// whatever looks at frames sees interpreted ones as its own: tracebacks, sys._getframe(), locals(),
// super(), warnings, the garbage collector, and generators, which are CPython's objects and may be
// resumed by either side. The layouts are those of the supported versions; check_layout() compares
// them with the running Python before anything relies on them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "py/version.h"

namespace fulmen::py {

using CodeUnit = uint16_t;  // an opcode and its argument

enum FrameOwner : char {
  kOwnedByThread = 0,
  kOwnedByGenerator = 1,
  kOwnedByFrameObject = 2,
  kOwnedByCStack = 3
};

enum GeneratorState : int8_t {
#if FULMEN_PY_313
  kGenCreated = -3,
  kGenSuspended = -2,
  kGenSuspendedYieldFrom = -1,
#else
  kGenCreated = -2,
  kGenSuspended = -1,
#endif
  kGenExecuting = 0,
  kGenCompleted = 1,
  kGenCleared = 4,
};

struct NativeFrame {
#if FULMEN_PY_311
  PyObject* function;  // strong
  PyObject* globals;
  PyObject* builtins;
  PyObject* locals;             // strong or null
  PyCodeObject* code;           // strong
  PyFrameObject* frame_object;  // strong or null
  NativeFrame* previous;
  CodeUnit* position;
  int stack_top;
  bool is_entry;
  char owner;
#else
  PyCodeObject* code;  // strong
  NativeFrame* previous;
  PyObject* function;  // strong
  PyObject* globals;
  PyObject* builtins;
  PyObject* locals;             // strong or null
  PyFrameObject* frame_object;  // strong or null
  CodeUnit* position;
  int stack_top;
  uint16_t return_offset;
  char owner;
#endif
  PyObject* slots[1];  // localsplus, then the value stack
};

// The head of PyFrameObject, which no public header shows.
struct FrameObjectHead {
  PyObject_HEAD PyFrameObject* back;
  NativeFrame* frame;
  PyObject* trace;
  int lineno;
  char trace_lines;
  char trace_opcodes;
#if FULMEN_PY_313
  PyObject* extra_locals;
  PyObject* locals_cache;
#else
  char fast_as_locals;
#endif
  PyObject* data[1];
};

inline CodeUnit* code_units(PyCodeObject* code) {
  return reinterpret_cast<CodeUnit*>(code->co_code_adaptive);
}

inline NativeFrame* current_frame(PyThreadState* thread) {
#if FULMEN_PY_313
  return reinterpret_cast<NativeFrame*>(thread->current_frame);
#else
  return reinterpret_cast<NativeFrame*>(thread->cframe->current_frame);
#endif
}

inline void set_current_frame(PyThreadState* thread, NativeFrame* frame) {
#if FULMEN_PY_313
  thread->current_frame = reinterpret_cast<_PyInterpreterFrame*>(frame);
#else
  thread->cframe->current_frame = reinterpret_cast<_PyInterpreterFrame*>(frame);
#endif
}

inline NativeFrame* generator_frame(PyObject* generator) {
  return reinterpret_cast<NativeFrame*>(reinterpret_cast<PyGenObject*>(generator)->gi_iframe);
}

inline PyObject* frame_generator(NativeFrame* frame) {
  return reinterpret_cast<PyObject*>(reinterpret_cast<char*>(frame) -
                                     offsetof(PyGenObject, gi_iframe));
}

// The code unit at which a frame that is not running continues.
inline int resume_unit(const NativeFrame* frame) {
  const auto unit = static_cast<int>(frame->position - code_units(frame->code));
#if FULMEN_PY_313
  return unit;
#else
  return unit + 1;
#endif
}

// Marks a frame that stops after the instruction at `unit`, so that either side can resume it.
inline void set_suspended_at(NativeFrame* frame, int unit) {
#if FULMEN_PY_313
  ++unit;
#endif
  frame->position = code_units(frame->code) + unit;
}

// Bytes for a frame of `code`, its value stack included.
inline size_t frame_bytes(PyCodeObject* code) {
  return sizeof(NativeFrame) + sizeof(PyObject*) * (code->co_nlocalsplus + code->co_stacksize);
}

// Fills in a new frame that owns `function`'s code and a new reference to it; the slots for
// localsplus are null. `locals` may be null.
void init_frame(NativeFrame* frame, PyFunctionObject* function, PyObject* locals);

// Drops what a finished frame holds in slots[0 .. stack_top). If a Python frame object for it lives
// on, that takes over the contents instead. The frame must be unlinked already.
void clear_frame(NativeFrame* frame);

// Adds the running frame to the traceback of the current exception.
void add_traceback(PyThreadState* thread, NativeFrame* frame);

// False, with an ImportError, if the running Python keeps frames otherwise than this file says.
bool check_layout();

}  // namespace fulmen::py
