// send(), throw() and close() of generators and coroutines.
#include "interp/lookaside.h"
#include "interp/slots.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// What a method returns when the generator has been resumed.
Looked conclude(PyObject* generator, Sent sent, Val* result) {
  if (sent == Sent::kNext) return Looked::kDone;
  if (sent == Sent::kReturn) {
    if (result->o == Py_None) {
      PyErr_SetNone(PyAsyncGen_CheckExact(generator) ? PyExc_StopAsyncIteration
                                                     : PyExc_StopIteration);
    } else {
      _PyGen_SetStopIterationValue(result->o);
    }
    Py_CLEAR(result->o);
  }
  return Looked::kError;
}

bool can_resume(const Args& args, Py_ssize_t count) {
  return !args.names && args.count == count && is_generator(args.objects[0]) &&
         !PyAsyncGen_CheckExact(args.objects[0]);
}

Looked send_value(Frame& frame, Val, const Args& args, Val* result) {
  if (!can_resume(args, 2)) return Looked::kDecline;
  return conclude(args.objects[0], resume(frame, args.objects[0], args.at(1), false, result),
                  result);
}

Looked next_value(Frame& frame, Val, const Args& args, Val* result) {
  if (!can_resume(args, 1) || PyCoro_CheckExact(args.objects[0])) return Looked::kDecline;
  return conclude(args.objects[0], resume(frame, args.objects[0], {}, false, result), result);
}

// throw() and close() of a generator that delegates to another are CPython's to dispatch.
bool delegates(PyObject* generator) {
  PyObject* inner =
      PyObject_GetAttrString(generator, PyCoro_CheckExact(generator) ? "cr_await" : "gi_yieldfrom");
  const bool is = inner && inner != Py_None;
  if (!inner) PyErr_Clear();
  Py_XDECREF(inner);
  return is;
}

bool is_suspended(PyObject* generator) {
  return reinterpret_cast<PyGenObject*>(generator)->gi_frame_state < py::kGenExecuting;
}

Looked throw_in(Frame& frame, Val, const Args& args, Val* result) {
  if (!can_resume(args, 2) || !is_suspended(args.objects[0]) || delegates(args.objects[0]) ||
      must_run_natively(frame.context)) {
    return Looked::kDecline;
  }
  PyObject* given = args.objects[1];
  if (PyExceptionInstance_Check(given)) {
    py::restore_exception(Py_NewRef(given));
  } else if (PyExceptionClass_Check(given)) {
    PyErr_SetNone(given);
    py::restore_exception(py::fetch_exception());
  } else {
    return Looked::kDecline;
  }
  return conclude(args.objects[0], resume(frame, args.objects[0], {}, true, result), result);
}

Looked close_generator(Frame& frame, Val, const Args& args, Val* result) {
  if (!can_resume(args, 1) || must_run_natively(frame.context)) return Looked::kDecline;
  PyObject* generator = args.objects[0];
  const auto state = reinterpret_cast<PyGenObject*>(generator)->gi_frame_state;
  if (state == py::kGenCreated || state >= py::kGenExecuting || delegates(generator)) {
    return Looked::kDecline;
  }
  PyErr_SetNone(PyExc_GeneratorExit);
  py::restore_exception(py::fetch_exception());
  const Sent sent = resume(frame, generator, {}, true, result);
  if (sent == Sent::kNext) {
    Py_CLEAR(result->o);
    PyErr_Format(PyExc_RuntimeError, "%s ignored GeneratorExit",
                 PyCoro_CheckExact(generator) ? "coroutine" : "generator");
    return Looked::kError;
  }
  if (sent == Sent::kReturn) {
#if FULMEN_PY_313
    return Looked::kDone;  // the generator's return value
#else
    Py_CLEAR(result->o);
#endif
  } else if (PyErr_ExceptionMatches(PyExc_StopIteration) ||
             PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
    PyErr_Clear();
  } else {
    return Looked::kError;
  }
  *result = {Py_NewRef(Py_None), nullptr};
  return Looked::kDone;
}

}  // namespace

bool init_generator_lookasides() {
  for (PyTypeObject* type : {&PyGen_Type, &PyCoro_Type}) {
    if (!register_method(type, "send", send_value) || !register_method(type, "throw", throw_in) ||
        !register_method(type, "close", close_generator)) {
      return false;
    }
  }
  return register_method(&PyGen_Type, "__next__", next_value);
}

}  // namespace fulmen::interp
