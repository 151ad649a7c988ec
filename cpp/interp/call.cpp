// The call protocol.
#include <alloca.h>
#include <pthread.h>

#include <cstring>

#include "interp/intercept.h"
#include "interp/lookaside.h"
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

bool enter_python_call(PyThreadState* thread) {
#if FULMEN_PY_311
  // A failing check takes its count back itself.
  if (--thread->recursion_remaining < 0 && _Py_CheckRecursiveCall(thread, "")) return false;
#else
  if (thread->py_recursion_remaining-- <= 0) {
    ++thread->py_recursion_remaining;
    PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded");
    return false;
  }
#endif
  return true;
}

void leave_python_call(PyThreadState* thread) {
#if FULMEN_PY_311
  ++thread->recursion_remaining;
#else
  ++thread->py_recursion_remaining;
#endif
}

namespace {

// What every function has unless C code set another.
vectorcallfunc plain_vectorcall = nullptr;

enum class Bound : uint8_t { kYes, kMismatch, kError };

int find_parameter(PyCodeObject* code, PyObject* name) {
  const int total = code->co_argcount + code->co_kwonlyargcount;
  PyObject* const* slots = &PyTuple_GET_ITEM(code->co_localsplusnames, 0);
  for (int i = code->co_posonlyargcount; i < total; i++) {
    if (slots[i] == name) return i;
  }
  for (int i = code->co_posonlyargcount; i < total; i++) {
    if (PyUnicode_Compare(slots[i], name) == 0) return i;
  }
  return -1;
}

// Fills `locals` (all null) with new references. kMismatch: the call is wrong, and CPython, called
// with the same arguments, says how.
Bound bind(Frame& frame, Val function, PyCodeObject* code, const Args& args, PyObject** locals,
           Prov** provs) {
  auto* fn = reinterpret_cast<PyFunctionObject*>(function.o);
  const int positional = code->co_argcount;
  const int total = positional + code->co_kwonlyargcount;
  const auto put = [&](int slot, Val value) {
    locals[slot] = Py_NewRef(value.o);
    if (provs) provs[slot] = value.p;
  };
  const auto given = static_cast<int>(args.count < positional ? args.count : positional);
  for (int i = 0; i < given; i++) put(i, args.at(i));
  int slot = total;
  if (code->co_flags & CO_VARARGS) {
    const Py_ssize_t extra = args.count > positional ? args.count - positional : 0;
    PyObject* tuple = PyTuple_New(extra);
    if (!tuple) return Bound::kError;
    for (Py_ssize_t i = 0; i < extra; i++) {
      PyTuple_SET_ITEM(tuple, i, Py_NewRef(args.objects[positional + i]));
    }
    locals[slot++] = tuple;
  } else if (args.count > positional) {
    return Bound::kMismatch;
  }
  PyObject* keywords = nullptr;
  if (code->co_flags & CO_VARKEYWORDS) {
    keywords = locals[slot] = PyDict_New();
    if (!keywords) return Bound::kError;
  }
  for (Py_ssize_t i = 0, n = args.named(); i < n; i++) {
    PyObject* name = PyTuple_GET_ITEM(args.names, i);
    if (!PyUnicode_Check(name)) return Bound::kMismatch;
    const int at = find_parameter(code, name);
    if (at >= 0) {
      if (locals[at]) return Bound::kMismatch;
      put(at, args.at(args.count + i));
    } else if (!keywords) {
      return Bound::kMismatch;
    } else {
      if (PyDict_SetItem(keywords, name, args.objects[args.count + i]) < 0) return Bound::kError;
    }
  }
  PyObject* defaults = fn->func_defaults;
  const auto default_count = static_cast<int>(defaults ? PyTuple_GET_SIZE(defaults) : 0);
  for (int i = given; i < total; i++) {
    if (locals[i]) continue;
    PyObject* name = PyTuple_GET_ITEM(code->co_localsplusnames, i);
    PyObject* value = nullptr;
    if (i < positional) {
      const int d = i - (positional - default_count);
      if (d >= 0) value = PyTuple_GET_ITEM(defaults, d);
    } else if (fn->func_kwdefaults) {
      value = PyDict_GetItemWithError(fn->func_kwdefaults, name);
      if (!value && PyErr_Occurred()) return Bound::kError;
    }
    if (!value) return Bound::kMismatch;
    Val filled{Py_NewRef(value), nullptr};
    if (frame.hooks && !frame.hooks->read(frame, Read::kDefault, function, name, &filled)) {
      Py_DECREF(filled.o);
      return Bound::kError;
    }
    locals[i] = filled.o;
    if (provs) provs[i] = filled.p;
  }
  return Bound::kYes;
}

void drop(Val* value) { Py_CLEAR(value->o); }

// Runs a frame whose record is filled in, links it and unlinks it again.
__attribute__((noinline)) bool run_linked(Frame& caller, Frame& frame, Val* result) {
  PyThreadState* thread = caller.context->thread;
  py::NativeFrame* native = frame.native;
  native->previous = py::current_frame(thread);
  native->stack_top = -1;
  py::set_current_frame(thread, native);
  caller.context->counters.frames++;
  const Exit exit = run(frame, false, result);
  py::set_current_frame(thread, native->previous);
  native->stack_top = frame.code->object->co_nlocalsplus;
  if (exit == Exit::kError) {
    // What clearing the frame runs must not see the exception.
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    py::clear_frame(native);
    PyErr_Restore(type, value, traceback);
    return false;
  }
  py::clear_frame(native);
  return true;
}

__attribute__((noinline)) bool run_function(Frame& caller, Val function, Code* code,
                                            const Args& args, bool steal, Val* result) {
  auto* native = static_cast<py::NativeFrame*>(alloca(code->frame_bytes));
  PyCodeObject* object = code->object;
  const int slots = object->co_nlocalsplus;
  Prov** provs = nullptr;
  if (caller.hooks) {
    const size_t bytes = sizeof(Prov*) * (slots + object->co_stacksize + 1);
    provs = static_cast<Prov**>(alloca(bytes));
    std::memset(provs, 0, bytes);
  }
  py::init_frame(native, reinterpret_cast<PyFunctionObject*>(function.o), nullptr);
  PyObject** locals = native->slots;
  if (code->simple_parameters && !args.names && args.count == object->co_argcount) {
    for (Py_ssize_t i = 0; i < args.count; i++) {
      PyObject* value = args.objects[i];
      if (steal) {
        args.objects[i] = nullptr;
      } else {
        Py_INCREF(value);
      }
      locals[i] = value;
      if (provs && args.provs) provs[i] = args.provs[i];
    }
  } else {
    const Bound bound = bind(caller, function, object, args, locals, provs);
    if (bound != Bound::kYes) {
      py::clear_frame(native);
      return bound == Bound::kMismatch && call_opaque(caller, function, args, result);
    }
    if (steal) {
      for (Py_ssize_t i = 0, n = args.total(); i < n; i++) Py_CLEAR(args.objects[i]);
    }
  }
  if (!enter_python_call(caller.context->thread)) {
    py::clear_frame(native);
    return false;
  }
  Frame frame;
  frame.context = caller.context;
  frame.hooks = caller.hooks;
  frame.code = code;
  frame.native = native;
  frame.locals = locals;
  frame.stack = frame.top = locals + slots;
  frame.provs = provs;
  frame.function = function.p;
  frame.pc = 0;
  frame.caller = &caller;
  const bool ok = run_linked(caller, frame, result);
  leave_python_call(caller.context->thread);
  return ok;
}

}  // namespace

bool stack_is_short(Context* context) {
  const char here = 0;
  return &here < context->stack_limit;
}

bool must_run_natively(Context* context) {
  return stack_is_short(context) || context->thread->c_tracefunc || context->thread->c_profilefunc;
}

void init_calls(PyObject* function) {
  plain_vectorcall = reinterpret_cast<PyFunctionObject*>(function)->vectorcall;
}

bool call_function(Frame& frame, Val function, const Args& args, bool steal, Val* result) {
  auto* fn = reinterpret_cast<PyFunctionObject*>(function.o);
  Code* code = decoded(reinterpret_cast<PyCodeObject*>(fn->func_code));
  if (!code) return false;
  // A function whose vectorcall was replaced from C is what that says.
  if (fn->vectorcall != plain_vectorcall) return call_opaque(frame, function, args, result);
  // Making a generator runs nothing of its body, and CPython's own objects are what we resume.
  if (code->makes_generator) return call_opaque(frame, function, args, result);
  if (code->refusal || must_run_natively(frame.context)) {
    frame.context->counters.refused++;
    if (!stack_is_short(frame.context)) return call_opaque(frame, function, args, result);
    const ShortStack scope(frame.context);
    return call_opaque(frame, function, args, result);
  }
  return run_function(frame, function, code, args, steal, result);
}

bool run_code(Frame& frame, PyFunctionObject* function, PyObject* locals, Val* result) {
  Code* code = decoded(reinterpret_cast<PyCodeObject*>(function->func_code));
  if (!code) return false;
  auto* native = static_cast<py::NativeFrame*>(alloca(code->frame_bytes));
  PyCodeObject* object = code->object;
  Prov** provs = nullptr;
  if (frame.hooks) {
    const size_t bytes = sizeof(Prov*) * (object->co_nlocalsplus + object->co_stacksize + 1);
    provs = static_cast<Prov**>(alloca(bytes));
    std::memset(provs, 0, bytes);
  }
  if (!enter_python_call(frame.context->thread)) return false;
  py::init_frame(native, function, locals);
  Frame inner;
  inner.context = frame.context;
  inner.hooks = frame.hooks;
  inner.code = code;
  inner.native = native;
  inner.locals = native->slots;
  inner.stack = inner.top = native->slots + object->co_nlocalsplus;
  inner.provs = provs;
  inner.function = nullptr;
  inner.pc = 0;
  inner.caller = &frame;
  const bool ok = run_linked(frame, inner, result);
  leave_python_call(frame.context->thread);
  return ok;
}

bool call_opaque(Frame& frame, Val callee, const Args& args, Val* result) {
  if (frame.hooks && !frame.hooks->before_opaque(frame, callee, args)) return false;
  frame.context->counters.opaque++;
  const size_t count = args.count | (args.has_slot ? PY_VECTORCALL_ARGUMENTS_OFFSET : 0);
  result->p = nullptr;
  result->o = PyObject_Vectorcall(callee.o, args.objects, count, args.names);
  if (!result->o) return false;
  // A signal that arrived meanwhile, or that the call sent, is handled before the next line.
  if (PyErr_CheckSignals() < 0) {
    drop(result);
    return false;
  }
  if (frame.hooks && !frame.hooks->after_opaque(frame, callee, args, result)) {
    drop(result);
    return false;
  }
  return true;
}

namespace {

// callee(first, *args)
bool call_prepended(Frame& frame, Val callee, Val first, const Args& args, Val* result) {
  if (args.has_slot) {
    PyObject* saved = args.objects[-1];
    Prov* saved_prov = args.provs ? args.provs[-1] : nullptr;
    args.objects[-1] = first.o;
    if (args.provs) args.provs[-1] = first.p;
    const Args more{args.objects - 1, args.provs ? args.provs - 1 : nullptr, args.count + 1,
                    args.names, false};
    const bool ok = call(frame, callee, more, result);
    args.objects[-1] = saved;
    if (args.provs) args.provs[-1] = saved_prov;
    return ok;
  }
  const Py_ssize_t total = args.total();
  auto** objects = static_cast<PyObject**>(alloca(sizeof(PyObject*) * (total + 2))) + 1;
  objects[0] = first.o;
  std::memcpy(objects + 1, args.objects, sizeof(PyObject*) * total);
  Prov** provs = nullptr;
  if (frame.hooks) {
    provs = static_cast<Prov**>(alloca(sizeof(Prov*) * (total + 2))) + 1;
    provs[0] = first.p;
    for (Py_ssize_t i = 0; i < total; i++) provs[i + 1] = args.provs ? args.provs[i] : nullptr;
  }
  return call(frame, callee, Args{objects, provs, args.count + 1, args.names, true}, result);
}

}  // namespace

bool call(Frame& frame, Val callee, const Args& args, Val* result) {
  if (frame.hooks) {
    const Answer answer = frame.hooks->call(frame, callee, args, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
  }
  PyObject* object = callee.o;
  PyTypeObject* type = Py_TYPE(object);
  if (type == &PyFunction_Type) return call_function(frame, callee, args, false, result);
  if (type == &PyMethod_Type) {
    return call_prepended(frame, {PyMethod_GET_FUNCTION(object), nullptr},
                          {PyMethod_GET_SELF(object), nullptr}, args, result);
  }
  const int handled = call_lookaside(frame, callee, args, result);
  if (handled) return handled > 0;
  if (PyType_Check(object) && type->tp_call == PyType_Type.tp_call) {
    return call_type(frame, callee, args, result);
  }
  if (type == partial_type) return call_partial(frame, callee, args, result);
  if (type->tp_call == python_slots.all.tp_call) {
    Val method;
    PyObject* found = type_lookup(frame, type, names::__call__);
    if (found && Py_TYPE(found) == &PyFunction_Type) {
      if (Py_EnterRecursiveCall(" while calling a Python object")) return false;
      py::Ref keep = py::Ref::borrow(found);
      const bool ok = call_prepended(frame, {found, nullptr}, callee, args, result);
      Py_LeaveRecursiveCall();
      return ok;
    }
    const int has = lookup_special(frame, callee, names::__call__, &method);
    if (has > 0) {
      if (Py_EnterRecursiveCall(" while calling a Python object")) {
        Py_DECREF(method.o);
        return false;
      }
      const bool ok = call(frame, method, args, result);
      Py_LeaveRecursiveCall();
      Py_DECREF(method.o);
      return ok;
    }
    if (has < 0) return false;
  }
  return call_opaque(frame, callee, args, result);
}

bool call_stealing(Frame& frame, Val callee, const Args& args, Val* result) {
  if (!Py_IS_TYPE(callee.o, &PyFunction_Type)) return call(frame, callee, args, result);
  if (frame.hooks) {
    const Answer answer = frame.hooks->call(frame, callee, args, result);
    if (answer != Answer::kNotHandled) return answer == Answer::kDone;
  }
  return call_function(frame, callee, args, /*steal=*/true, result);
}

bool call_with(Frame& frame, Val callee, std::initializer_list<Val> args, Val* result) {
  constexpr size_t kMost = 7;
  PyObject* objects[kMost + 1];
  Prov* provs[kMost + 1];
  objects[0] = nullptr;
  provs[0] = nullptr;
  size_t n = 1;
  for (const Val& value : args) {
    objects[n] = value.o;
    provs[n++] = value.p;
  }
  return call(frame, callee,
              Args{objects + 1, frame.hooks ? provs + 1 : nullptr,
                   static_cast<Py_ssize_t>(args.size()), nullptr, true},
              result);
}

namespace {

// A call of it would be call_opaque()'s.
bool is_opaque(PyObject* callee) {
  PyTypeObject* type = Py_TYPE(callee);
  return type != &PyFunction_Type && type != &PyMethod_Type && !PyType_Check(callee) &&
         type->tp_call != python_slots.all.tp_call && type != partial_type &&
         !has_lookaside(callee);
}

}  // namespace

bool call_unpacked(Frame& frame, Val callee, Val args, Val kwargs, Val* result) {
  const Py_ssize_t positional = PyTuple_GET_SIZE(args.o);
  const Py_ssize_t named = kwargs.o ? PyDict_GET_SIZE(kwargs.o) : 0;
  if (!frame.hooks && is_opaque(callee.o)) {  // with the very tuple, which the callee may keep
    frame.context->counters.opaque++;
    *result = {PyObject_Call(callee.o, args.o, kwargs.o), nullptr};
    return result->o != nullptr;
  }
  const size_t bytes = sizeof(PyObject*) * (positional + named + 1);
  const bool on_heap = bytes > 1 << 16;
  auto** objects = static_cast<PyObject**>(on_heap ? PyMem_Malloc(bytes) : alloca(bytes));
  if (!objects) {
    PyErr_NoMemory();
    return false;
  }
  objects[0] = nullptr;
  for (Py_ssize_t i = 0; i < positional; i++) objects[i + 1] = PyTuple_GET_ITEM(args.o, i);
  py::Ref name_tuple;
  if (named) {
    name_tuple = py::Ref::steal(PyTuple_New(named));
    if (!name_tuple) {
      if (on_heap) PyMem_Free(objects);
      return false;
    }
    PyObject *key, *value;
    Py_ssize_t position = 0, i = 0;
    bool strings = true;
    while (PyDict_Next(kwargs.o, &position, &key, &value)) {
      strings = strings && PyUnicode_Check(key);
      PyTuple_SET_ITEM(name_tuple.get(), i, Py_NewRef(key));
      objects[1 + positional + i++] = Py_NewRef(value);
    }
    if (!strings) PyErr_SetString(PyExc_TypeError, "keywords must be strings");
  }
  bool ok = false;
  if (!PyErr_Occurred()) {
    ok = call(frame, callee,
              Args{objects + 1, nullptr, positional, named ? name_tuple.get() : nullptr, true},
              result);
  }
  for (Py_ssize_t i = 0; i < named; i++) Py_DECREF(objects[1 + positional + i]);
  if (on_heap) PyMem_Free(objects);
  return ok;
}

}  // namespace fulmen::interp
