#include "interp/intercept.h"

#include <alloca.h>

#include <cstring>

#include "interp/protocol.h"
#include "py/native_frame.h"
#include "py/private_api.h"

namespace fulmen::interp {

namespace {

// Both under the GIL.
int intercepting = 0;                         // sessions that intercept, in all threads
int paused = 0;                               // scopes in which they do not
_PyFrameEvalFunction earlier_hook = nullptr;  // what stood there before

#if FULMEN_PY_312_UP
// Takes a finished frame off CPython's stack of frames, where its caller put it.
void pop_from_data_stack(PyThreadState* thread, py::NativeFrame* frame) {
  auto** base = reinterpret_cast<PyObject**>(frame);
  _PyStackChunk* chunk = thread->datastack_chunk;
  if (base != &chunk->data[0]) {
    thread->datastack_top = base;
    return;
  }
  _PyStackChunk* previous = chunk->previous;
  thread->datastack_top = &previous->data[previous->top];
  thread->datastack_chunk = previous;
  thread->datastack_limit =
      reinterpret_cast<PyObject**>(reinterpret_cast<char*>(previous) + previous->size);
  PyObjectArenaAllocator allocator;
  PyObject_GetArenaAllocator(&allocator);
  allocator.free(allocator.ctx, chunk, chunk->size);
}
#endif

// What CPython's loop does when a generator's frame yields.
void leave_suspended(PyThreadState* thread, Frame& frame) {
  PyObject* generator = py::frame_generator(frame.native);
  suspend_generator(generator, frame);
#if FULMEN_PY_312_UP
  auto* gen = reinterpret_cast<PyGenObject*>(generator);
  thread->exc_info = gen->gi_exc_state.previous_item;
  gen->gi_exc_state.previous_item = nullptr;
  frame.native->previous = nullptr;
#else
  (void)thread;
#endif
}

// ... and when a frame has returned or raised. Before 3.12 the caller of the loop clears the frame.
void leave_finished(PyThreadState* thread, py::NativeFrame* native) {
  native->stack_top = native->code->co_nlocalsplus;
#if FULMEN_PY_312_UP
  if (native->owner == py::kOwnedByGenerator) {
    PyObject* generator = py::frame_generator(native);
    auto* gen = reinterpret_cast<PyGenObject*>(generator);
    thread->exc_info = gen->gi_exc_state.previous_item;
    gen->gi_exc_state.previous_item = nullptr;
    finish_generator(generator);
    return;
  }
  PyObject* error = PyErr_GetRaisedException();
  py::clear_frame(native);
  PyErr_SetRaisedException(error);
  pop_from_data_stack(thread, native);
#else
  (void)thread;
#endif
}

PyObject* run_intercepted(Context* context, Code* code, py::NativeFrame* native, bool raised) {
  PyThreadState* thread = context->thread;
  const int unit = py::resume_unit(native);
  Frame frame;
  frame.context = context;
  frame.hooks = context->hooks;
  frame.code = code;
  frame.native = native;
  frame.locals = native->slots;
  frame.stack = native->slots + code->object->co_nlocalsplus;
  frame.top = native->slots + native->stack_top;
  frame.provs = nullptr;
  frame.function = nullptr;
  frame.pc = code->index_of_unit[raised ? unit - 1 : unit];
  frame.caller = context->root;
  if (context->hooks) {
    const size_t bytes =
        sizeof(Prov*) * (code->object->co_nlocalsplus + code->object->co_stacksize + 1);
    frame.provs = static_cast<Prov**>(alloca(bytes));
    std::memset(frame.provs, 0, bytes);
  }
  Val result;
  Exit exit = Exit::kError;
  native->previous = py::current_frame(thread);
  native->stack_top = -1;
  if (enter_python_call(thread)) {
    py::set_current_frame(thread, native);
    context->counters.frames++;
    context->counters.intercepted++;
    exit = run(frame, raised, &result);
    py::set_current_frame(thread, native->previous);
    leave_python_call(thread);
  } else {
    while (frame.top > frame.stack) Py_XDECREF(*--frame.top);
  }
  if (exit == Exit::kYield) {
    leave_suspended(thread, frame);
    return result.o;
  }
  leave_finished(thread, native);
  return exit == Exit::kReturn ? result.o : nullptr;
}

PyObject* evaluate(PyThreadState* thread, _PyInterpreterFrame* opaque, int raised) {
  auto* native = reinterpret_cast<py::NativeFrame*>(opaque);
  Context* context = current_context();
  if (context && context->intercepts && !context->runs_own && context->thread == thread &&
      !must_run_natively(context)) {
    if (context->hooks && !context->hooks->follows(native->code)) {
      const OwnCode own(context);
      return earlier_hook ? earlier_hook(thread, opaque, raised)
                          : _PyEval_EvalFrameDefault(thread, opaque, raised);
    }
    const bool of_generator = native->owner == py::kOwnedByGenerator;
    // Decoding must not meet the exception that is thrown in.
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Code* code = decoded(native->code);
    PyErr_Restore(type, value, traceback);
    // The frame that makes a generator is CPython's to run; see call_function().
    if (code && !code->refusal && (of_generator || !code->makes_generator)) {
      return run_intercepted(context, code, native, raised);
    }
  }
  if (earlier_hook) return earlier_hook(thread, opaque, raised);
  if (context && stack_is_short(context)) {
    const ShortStack scope(context);
    return _PyEval_EvalFrameDefault(thread, opaque, raised);
  }
  return _PyEval_EvalFrameDefault(thread, opaque, raised);
}

void install() {
  PyInterpreterState* interpreter = PyInterpreterState_Get();
  earlier_hook = _PyInterpreterState_GetEvalFrameFunc(interpreter);
  if (earlier_hook == _PyEval_EvalFrameDefault || earlier_hook == evaluate) earlier_hook = nullptr;
  _PyInterpreterState_SetEvalFrameFunc(interpreter, evaluate);
}

void uninstall() {
  PyInterpreterState* interpreter = PyInterpreterState_Get();
  // Somebody else's hook that was set meanwhile stays.
  if (_PyInterpreterState_GetEvalFrameFunc(interpreter) != evaluate) return;
  _PyInterpreterState_SetEvalFrameFunc(interpreter,
                                       earlier_hook ? earlier_hook : _PyEval_EvalFrameDefault);
}

}  // namespace

ShortStack::ShortStack(Context* context) : context_(context) {
#if FULMEN_PY_312_UP
  // CPython counts recursion in C as if the whole stack were its own.
  constexpr int kBytesALevel = 768;
  const char here = 0;
  const char* end = context->stack_limit - context->stack_reserve;
  const auto left = static_cast<int>((&here - end) / kBytesALevel);
  saved_ = context->thread->c_recursion_remaining;
  if (left < saved_) context->thread->c_recursion_remaining = left;
#endif
  if (paused++ == 0 && intercepting) uninstall();
}

ShortStack::~ShortStack() {
#if FULMEN_PY_312_UP
  context_->thread->c_recursion_remaining = saved_;
#endif
  if (--paused == 0 && intercepting) install();
}

void begin_intercepting() {
  if (intercepting++ == 0 && !paused) install();
}

void end_intercepting() {
  if (--intercepting == 0 && !paused) uninstall();
}

}  // namespace fulmen::interp
