#include "py/native_frame.h"

#include <frameobject.h>

#include <cstring>

#include "py/ref.h"

namespace fulmen::py {

void init_frame(NativeFrame* frame, PyFunctionObject* function, PyObject* locals) {
  auto* code = reinterpret_cast<PyCodeObject*>(Py_NewRef(function->func_code));
  frame->function = Py_NewRef(reinterpret_cast<PyObject*>(function));
  frame->code = code;
  frame->globals = function->func_globals;
  frame->builtins = function->func_builtins;
  frame->locals = Py_XNewRef(locals);
  frame->frame_object = nullptr;
  frame->previous = nullptr;
#if FULMEN_PY_313
  frame->position = code_units(code);
#else
  frame->position = code_units(code) - 1;
#endif
  frame->stack_top = code->co_nlocalsplus;
#if FULMEN_PY_311
  frame->is_entry = false;
#else
  frame->return_offset = 0;
#endif
  frame->owner = kOwnedByThread;
  std::memset(frame->slots, 0, sizeof(PyObject*) * code->co_nlocalsplus);
}

namespace {

bool is_incomplete(const NativeFrame* frame) {
#if FULMEN_PY_312_UP
  if (frame->owner == kOwnedByCStack) return true;
#endif
  return frame->owner != kOwnedByGenerator &&
         frame->position < code_units(frame->code) + frame->code->_co_firsttraceable;
}

// A frame object that outlives its frame takes the contents over, as CPython's does.
void hand_over(FrameObjectHead* object, NativeFrame* frame) {
  const size_t size =
      reinterpret_cast<char*>(&frame->slots[frame->stack_top]) - reinterpret_cast<char*>(frame);
  auto* kept = reinterpret_cast<NativeFrame*>(object->data);
#if FULMEN_PY_312_UP
  if (frame->owner == kOwnedByGenerator) Py_INCREF(frame->code);  // which the generator keeps too
#endif
  std::memcpy(static_cast<void*>(kept), frame, size);
  object->frame = kept;
  kept->owner = kOwnedByFrameObject;
  if (is_incomplete(kept)) {  // left before its first line: keep it printable
    kept->position = code_units(kept->code) + kept->code->_co_firsttraceable;
  }
  NativeFrame* previous = frame->previous;
  while (previous && is_incomplete(previous)) previous = previous->previous;
  kept->previous = nullptr;
  if (previous) {
    if (PyFrameObject* back = PyThreadState_GetFrame(PyThreadState_Get())) {
      // The frame was unlinked before, so that its caller is the running frame.
      if (!object->back) {
        object->back = back;
      } else {
        Py_DECREF(back);
      }
    }
  }
  if (!PyObject_GC_IsTracked(reinterpret_cast<PyObject*>(object))) PyObject_GC_Track(object);
}

}  // namespace

void clear_frame(NativeFrame* frame) {
  if (frame->frame_object) {
    auto* object = reinterpret_cast<FrameObjectHead*>(frame->frame_object);
    frame->frame_object = nullptr;
    if (Py_REFCNT(object) > 1) {
      hand_over(object, frame);
      Py_DECREF(object);
      return;
    }
    Py_DECREF(object);
  }
  for (int i = 0; i < frame->stack_top; i++) Py_XDECREF(frame->slots[i]);
  frame->stack_top = 0;
  Py_CLEAR(frame->locals);
  Py_CLEAR(frame->function);
#if FULMEN_PY_311
  Py_CLEAR(frame->code);
#else
  if (frame->owner != kOwnedByGenerator) Py_CLEAR(frame->code);  // gi_code needs it
#endif
}

void add_traceback(PyThreadState* thread, NativeFrame* frame) {
  if (is_incomplete(frame)) return;
  PyFrameObject* object = PyThreadState_GetFrame(thread);
  if (!object) {
    PyErr_Clear();
    return;
  }
  PyTraceBack_Here(object);
  Py_DECREF(object);
}

namespace {

// The layout is compared in a frame whose contents are known: one that runs this call.
PyObject* probe(PyObject*, PyObject* expected) {
  PyThreadState* thread = PyThreadState_Get();
  PyFrameObject* object = PyThreadState_GetFrame(thread);
  if (!object) Py_RETURN_FALSE;
  Ref keep = Ref::steal(reinterpret_cast<PyObject*>(object));
  NativeFrame* frame = current_frame(thread);
  const auto* head = reinterpret_cast<FrameObjectHead*>(object);
  PyObject* globals = PyFrame_GetGlobals(object);
  PyObject* builtins = PyFrame_GetBuiltins(object);
  PyCodeObject* code = PyFrame_GetCode(object);
  const auto unit = frame->position - code_units(frame->code);
  const bool same = head->frame == frame && frame->frame_object == object && frame->code == code &&
                    frame->globals == globals && frame->builtins == builtins &&
                    frame->slots[0] == expected && PyFrame_GetLasti(object) == unit * 2 &&
                    frame->owner == kOwnedByThread && PyFunction_Check(frame->function) &&
                    reinterpret_cast<PyFunctionObject*>(frame->function)->func_code ==
                        reinterpret_cast<PyObject*>(code);
  Py_DECREF(globals);
  Py_DECREF(builtins);
  Py_DECREF(code);
  return PyBool_FromLong(same);
}

PyMethodDef probe_method = {"probe", probe, METH_O, nullptr};

}  // namespace

bool check_layout() {
  Ref globals = Ref::steal(PyDict_New());
  Ref method = Ref::steal(PyCFunction_New(&probe_method, nullptr));
  if (!globals || !method) return false;
  if (PyDict_SetItemString(globals.get(), "probe", method.get()) < 0) return false;
  Ref done =
      Ref::steal(PyRun_String("def frame(x):\n  y = x\n  return probe(y)\n"
                              "def generator():\n  yield 1\n"
                              "same = frame(object())\n",
                              Py_file_input, globals.get(), globals.get()));
  if (!done) return false;
  bool same = PyDict_GetItemString(globals.get(), "same") == Py_True;
  if (same) {
    Ref gen = Ref::steal(PyObject_CallNoArgs(PyDict_GetItemString(globals.get(), "generator")));
    if (!gen) return false;
    const NativeFrame* frame = generator_frame(gen.get());
    same = reinterpret_cast<PyGenObject*>(gen.get())->gi_frame_state == kGenCreated &&
           frame->owner == kOwnedByGenerator && frame->globals == globals.get() &&
           frame->stack_top == frame->code->co_nlocalsplus;
  }
  if (!same) {
    PyErr_Format(PyExc_ImportError,
                 "the interpreter was built for Python %s, and this Python (%s) keeps its frames "
                 "differently: rebuild it with this Python",
                 PY_VERSION, Py_GetVersion());
  }
  return same;
}

}  // namespace fulmen::py
