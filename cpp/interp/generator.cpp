// Generators and coroutines. The objects are CPython's; their frames are interpreted here whenever
// interpreted code resumes them. See Note [Native frames].
#include <alloca.h>

#include <cstring>

#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

PyGenObject* as_generator(PyObject* object) { return reinterpret_cast<PyGenObject*>(object); }

const char* kind(PyObject* generator) {
  if (PyCoro_CheckExact(generator)) return "coroutine";
  return PyAsyncGen_CheckExact(generator) ? "async generator" : "generator";
}

}  // namespace

void suspend_generator(PyObject* object, Frame& frame) {
  const Inst& yield = frame.code->insts[frame.pc];
#if FULMEN_PY_313
  as_generator(object)->gi_frame_state = static_cast<int8_t>(py::kGenSuspended + yield.arg);
#else
  as_generator(object)->gi_frame_state = py::kGenSuspended;
#endif
  py::set_suspended_at(frame.native, static_cast<int>(yield.unit));
  frame.native->stack_top = static_cast<int>(frame.top - frame.locals);
}

void finish_generator(PyObject* object) {
  PyGenObject* gen = as_generator(object);
  PyObject* handled = gen->gi_exc_state.exc_value;
  gen->gi_exc_state.exc_value = nullptr;
  Py_XDECREF(handled);
  gen->gi_frame_state = py::kGenCleared;
  py::NativeFrame* native = py::generator_frame(object);
  native->previous = nullptr;
  native->stack_top = native->code->co_nlocalsplus;
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  py::clear_frame(native);
  PyErr_Restore(type, value, traceback);
}

namespace {

// What a generator must not raise becomes a RuntimeError; since 3.12 its bytecode does this.
void translate_stop([[maybe_unused]] PyObject* generator) {
#if FULMEN_PY_311
  if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
    const char* message = PyCoro_CheckExact(generator) ? "coroutine raised StopIteration"
                          : PyAsyncGen_CheckExact(generator)
                              ? "async generator raised StopIteration"
                              : "generator raised StopIteration";
    _PyErr_FormatFromCause(PyExc_RuntimeError, "%s", message);
  } else if (PyAsyncGen_CheckExact(generator) && PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
    _PyErr_FormatFromCause(PyExc_RuntimeError, "%s", "async generator raised StopAsyncIteration");
  }
#endif
}

}  // namespace

bool is_generator(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  if (type != &PyGen_Type && type != &PyCoro_Type && type != &PyAsyncGen_Type) return false;
  if (as_generator(object)->gi_frame_state >= py::kGenExecuting) return true;
  Code* code = decoded(py::generator_frame(object)->code);
  if (!code) PyErr_Clear();
  return code && !code->refusal;
}

Sent resume(Frame& caller, PyObject* object, Val argument, bool raised, Val* result) {
  PyGenObject* gen = as_generator(object);
  result->p = nullptr;
  const int8_t state = gen->gi_frame_state;
  if (state == py::kGenCreated && argument.o && argument.o != Py_None) {
    PyErr_Format(PyExc_TypeError, "can't send non-None value to a just-started %s", kind(object));
    return Sent::kError;
  }
  if (state == py::kGenExecuting) {
    PyErr_Format(PyExc_ValueError, "%s already executing", kind(object));
    return Sent::kError;
  }
  if (state >= py::kGenCompleted) {
    if (PyCoro_CheckExact(object)) {
      PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
      return Sent::kError;
    }
    if (raised) return Sent::kError;
    *result = {Py_NewRef(Py_None), nullptr};
    return Sent::kReturn;
  }
  py::NativeFrame* native = py::generator_frame(object);
  PyThreadState* thread = caller.context->thread;
  Code* code = decoded(native->code);
  if (!code) return Sent::kError;

  if (!raised && must_run_natively(caller.context)) {
    caller.context->counters.refused++;
    const PySendResult sent = PyIter_Send(object, argument.o ? argument.o : Py_None, &result->o);
    return sent == PYGEN_NEXT ? Sent::kNext : sent == PYGEN_RETURN ? Sent::kReturn : Sent::kError;
  }

  py::Ref keep = py::Ref::borrow(object);
  const int slots = native->code->co_nlocalsplus;
  const int unit = py::resume_unit(native);
  Frame frame;
  frame.context = caller.context;
  frame.hooks = caller.hooks;
  frame.code = code;
  frame.native = native;
  frame.locals = native->slots;
  frame.stack = native->slots + slots;
  frame.top = native->slots + native->stack_top;
  frame.provs = nullptr;
  frame.function = nullptr;
  frame.pc = code->index_of_unit[raised ? unit - 1 : unit];
  frame.caller = &caller;
  if (caller.hooks) {
    const size_t bytes = sizeof(Prov*) * (slots + native->code->co_stacksize + 1);
    frame.provs = static_cast<Prov**>(alloca(bytes));
    std::memset(frame.provs, 0, bytes);
    caller.hooks->resume(object, frame.provs, native->stack_top);
  }
  *frame.top = Py_NewRef(argument.o ? argument.o : Py_None);
  if (frame.provs) frame.provs[frame.top - frame.locals] = argument.p;
  frame.top++;

  _PyErr_StackItem* handled = thread->exc_info;
  gen->gi_exc_state.previous_item = handled;
  thread->exc_info = &gen->gi_exc_state;
  if (raised && gen->gi_exc_state.exc_value && gen->gi_exc_state.exc_value != Py_None) {
    // Raised anew inside, so that what the generator handles becomes its context.
    py::Ref exception = py::Ref::steal(py::fetch_exception());
    py::raise_exception(exception.get());
  }
  gen->gi_frame_state = py::kGenExecuting;
  native->previous = py::current_frame(thread);
  native->stack_top = -1;
  Exit exit = Exit::kError;
  if (enter_python_call(thread)) {
    py::set_current_frame(thread, native);
    caller.context->counters.frames++;
    exit = run(frame, raised, result);
    py::set_current_frame(thread, native->previous);
    leave_python_call(thread);
  } else {
    while (frame.top > frame.stack) Py_XDECREF(*--frame.top);
  }
  native->previous = nullptr;
  thread->exc_info = handled;
  gen->gi_exc_state.previous_item = nullptr;
  if (exit == Exit::kYield) {
    suspend_generator(object, frame);
    if (caller.hooks) caller.hooks->suspend(object, frame.provs, native->stack_top);
    return Sent::kNext;
  }
  if (exit == Exit::kError) translate_stop(object);
  finish_generator(object);
  return exit == Exit::kReturn ? Sent::kReturn : Sent::kError;
}

Sent send(Frame& frame, Val receiver, Val value, Val* result) {
  PyTypeObject* type = Py_TYPE(receiver.o);
  if ((type == &PyGen_Type || type == &PyCoro_Type) && is_generator(receiver.o)) {
    return resume(frame, receiver.o, value, false, result);
  }
  result->p = nullptr;
  bool ok;
  if (value.o == Py_None && type->tp_iternext == python_slots.all.tp_iternext) {
    const int has = call_special(frame, receiver, names::__next__, {}, result);
    ok = has > 0;
  } else if ((type->tp_as_async && type->tp_as_async->am_send) ||
             (value.o == Py_None && PyIter_Check(receiver.o))) {
    const PySendResult sent = PyIter_Send(receiver.o, value.o, &result->o);
    return sent == PYGEN_NEXT ? Sent::kNext : sent == PYGEN_RETURN ? Sent::kReturn : Sent::kError;
  } else {
    Val method;
    ok = load_attr(frame, receiver, names::send, &method);
    if (ok) {
      ok = call_with(frame, method, {value}, result);
      Py_DECREF(method.o);
    }
  }
  if (ok) return Sent::kNext;
  return _PyGen_FetchStopIterationValue(&result->o) == 0 ? Sent::kReturn : Sent::kError;
}

namespace {

bool is_iterable_coroutine(PyObject* object) {
  if (!PyGen_CheckExact(object)) return false;
  PyObject* code = PyObject_GetAttrString(object, "gi_code");
  const bool marked =
      code && reinterpret_cast<PyCodeObject*>(code)->co_flags & CO_ITERABLE_COROUTINE;
  Py_XDECREF(code);
  return marked;
}

// The iterator behind `await object`.
bool awaitable_iterator(Frame& frame, Val object, Val* result) {
  if (PyCoro_CheckExact(object.o) || is_iterable_coroutine(object.o)) {
    *result = {Py_NewRef(object.o), object.p};
    return true;
  }
  PyTypeObject* type = Py_TYPE(object.o);
  const unaryfunc slot = type->tp_as_async ? type->tp_as_async->am_await : nullptr;
  if (!slot) {
    PyErr_Format(PyExc_TypeError, "object %.100s can't be used in 'await' expression",
                 type->tp_name);
    return false;
  }
  if (slot == python_slots.async.am_await) {
    const int has = call_special(frame, object, names::__await__, {}, result);
    if (has < 0) return false;
    if (has == 0) *result = {slot(object.o), nullptr};
  } else {
    *result = {slot(object.o), nullptr};
  }
  if (!result->o) return false;
  if (PyCoro_CheckExact(result->o) || is_iterable_coroutine(result->o)) {
    PyErr_SetString(PyExc_TypeError, "__await__() returned a coroutine");
  } else if (!PyIter_Check(result->o)) {
    PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'",
                 Py_TYPE(result->o)->tp_name);
  } else {
    return true;
  }
  Py_CLEAR(result->o);
  return false;
}

}  // namespace

bool get_awaitable(Frame& frame, Val object, int where, Val* result) {
  if (!awaitable_iterator(frame, object, result)) {
    PyTypeObject* type = Py_TYPE(object.o);
    if (where && !(type->tp_as_async && type->tp_as_async->am_await)) {
      PyErr_Format(PyExc_TypeError,
                   "'async with' received an object from %s that does not implement __await__: "
                   "%.100s",
                   where == 1 ? "__aenter__" : "__aexit__", type->tp_name);
    }
    return false;
  }
  if (PyCoro_CheckExact(result->o)) {
    py::Ref awaited = py::Ref::steal(PyObject_GetAttrString(result->o, "cr_await"));
    if (awaited && awaited.get() != Py_None) {
      Py_CLEAR(result->o);
      PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
      return false;
    }
  }
  return true;
}

bool get_aiter(Frame& frame, Val object, Val* result) {
  PyTypeObject* type = Py_TYPE(object.o);
  const unaryfunc slot = type->tp_as_async ? type->tp_as_async->am_aiter : nullptr;
  if (!slot) {
    PyErr_Format(PyExc_TypeError,
                 "'async for' requires an object with __aiter__ method, got %.100s", type->tp_name);
    return false;
  }
  int has = 0;
  if (slot == python_slots.async.am_aiter) {
    has = call_special(frame, object, names::__aiter__, {}, result);
  }
  if (has < 0) return false;
  if (has == 0) *result = {slot(object.o), nullptr};
  if (!result->o) return false;
  PyTypeObject* made = Py_TYPE(result->o);
  if (!made->tp_as_async || !made->tp_as_async->am_anext) {
    PyErr_Format(PyExc_TypeError,
                 "'async for' received an object from __aiter__ that does not implement "
                 "__anext__: %.100s",
                 made->tp_name);
    Py_CLEAR(result->o);
    return false;
  }
  return true;
}

bool get_anext(Frame& frame, Val iterator, Val* result) {
  PyTypeObject* type = Py_TYPE(iterator.o);
  const unaryfunc slot = type->tp_as_async ? type->tp_as_async->am_anext : nullptr;
  if (!slot) {
    PyErr_Format(PyExc_TypeError,
                 "'async for' requires an iterator with __anext__ method, got %.100s",
                 type->tp_name);
    return false;
  }
  if (PyAsyncGen_CheckExact(iterator.o)) {
    *result = {slot(iterator.o), nullptr};
    return result->o != nullptr;
  }
  Val item;
  int has = 0;
  if (slot == python_slots.async.am_anext) {
    has = call_special(frame, iterator, names::__anext__, {}, &item);
  }
  if (has < 0) return false;
  if (has == 0) item = {slot(iterator.o), nullptr};
  if (!item.o) return false;
  const bool ok = awaitable_iterator(frame, item, result);
  if (!ok) {
    _PyErr_FormatFromCause(PyExc_TypeError,
                           "'async for' received an invalid object from __anext__: %.100s",
                           Py_TYPE(item.o)->tp_name);
  }
  Py_DECREF(item.o);
  return ok;
}

PyObject* stop_iteration_error(Frame& frame, PyObject* exception) {
  const int flags = frame.code_object()->co_flags;
  const char* message = nullptr;
  if (PyErr_GivenExceptionMatches(exception, PyExc_StopIteration)) {
    message = flags & CO_ASYNC_GENERATOR ? "async generator raised StopIteration"
              : flags & CO_COROUTINE     ? "coroutine raised StopIteration"
                                         : "generator raised StopIteration";
  } else if (flags & CO_ASYNC_GENERATOR &&
             PyErr_GivenExceptionMatches(exception, PyExc_StopAsyncIteration)) {
    message = "async generator raised StopAsyncIteration";
  }
  if (!message) return Py_NewRef(exception);
  PyObject* text = PyUnicode_FromString(message);
  PyObject* error = text ? PyObject_CallOneArg(PyExc_RuntimeError, text) : nullptr;
  Py_XDECREF(text);
  if (error) {
    PyException_SetCause(error, Py_NewRef(exception));
    PyException_SetContext(error, Py_NewRef(exception));
  }
  return error;
}

}  // namespace fulmen::interp
