#include "interp/unwind.h"

#include "interp/protocol.h"
#include "py/exception.h"
#include "py/ref.h"

namespace fulmen::interp {

bool enter_handler(Frame& frame) {
  const uint32_t pc = frame.pc;
  for (const ExceptionRow& row : frame.code->exceptions) {
    if (pc < row.start || pc >= row.end) continue;
    PyObject** level = frame.stack + row.depth;
    while (frame.top > level) Py_XDECREF(*--frame.top);
    const auto push = [&](PyObject* object) {
      *frame.top = object;
      if (frame.provs) frame.provs[frame.top - frame.locals] = nullptr;
      frame.top++;
    };
    if (row.push_unit) {
      PyObject* unit = PyLong_FromLong(frame.native->position - py::code_units(frame.code->object));
      if (!unit) continue;
      push(unit);
    }
    push(py::fetch_exception());
    frame.pc = row.target;
    return true;
  }
  while (frame.top > frame.stack) Py_XDECREF(*--frame.top);
  return false;
}

namespace {

// Entering any Python function makes CPython look whether something waits.
PyObject* waiting_room = nullptr;

}  // namespace

bool init_tick() {
  if (waiting_room) return true;
  py::Ref space = py::Ref::steal(PyDict_New());
  if (!space) return false;
  py::Ref done =
      py::Ref::steal(PyRun_String("def tick(): pass\n", Py_file_input, space.get(), space.get()));
  if (!done) return false;
  waiting_room = Py_NewRef(PyDict_GetItemString(space.get(), "tick"));
  init_calls(waiting_room);
  return true;
}

bool tick(Context* context) {
  const OwnCode scope(context);
  PyObject* none = PyObject_CallNoArgs(waiting_room);
  if (none) {
    Py_DECREF(none);
    return true;
  }
  // A signal handler raised: the traceback begins with the interrupted line, not in here.
  PyObject* exception = py::fetch_exception();
  PyException_SetTraceback(exception, Py_None);
  py::restore_exception(exception);
  return false;
}

}  // namespace fulmen::interp
