// The * and ** of calls and displays.
#include "interp/protocol.h"
#include "py/exception.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

bool update_dict(Frame& frame, PyObject* dict, Val mapping) {
  if (frame.hooks && !frame.hooks->contents(frame, mapping)) return false;
  if (PyDict_Update(dict, mapping.o) == 0) return true;
  if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
    PyErr_Format(PyExc_TypeError, "'%.200s' object is not a mapping", Py_TYPE(mapping.o)->tp_name);
  }
  return false;
}

bool merge_keywords(Frame& frame, PyObject* dict, Val mapping, PyObject* callee) {
  if (frame.hooks && !frame.hooks->contents(frame, mapping)) return false;
  if (_PyDict_MergeEx(dict, mapping.o, 2) == 0) return true;
  if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
    PyErr_Clear();
    py::Ref name = py::Ref::steal(_PyObject_FunctionStr(callee));
    if (name) {
      PyErr_Format(PyExc_TypeError, "%U argument after ** must be a mapping, not %.200s",
                   name.get(), Py_TYPE(mapping.o)->tp_name);
    }
  } else if (PyErr_ExceptionMatches(PyExc_KeyError)) {
    py::Ref error = py::Ref::steal(py::fetch_exception());
    PyObject* args = reinterpret_cast<PyBaseExceptionObject*>(error.get())->args;
    if (args && PyTuple_Check(args) && PyTuple_GET_SIZE(args) == 1) {
      py::Ref name = py::Ref::steal(_PyObject_FunctionStr(callee));
      if (name) {
        PyErr_Format(PyExc_TypeError, "%U got multiple values for keyword argument '%S'",
                     name.get(), PyTuple_GET_ITEM(args, 0));
      }
    } else {
      py::restore_exception(error.release());
    }
  }
  return false;
}

bool star_args(Frame& frame, PyObject* callee, Val iterable, Val* result) {
  if (!Py_TYPE(iterable.o)->tp_iter && !PySequence_Check(iterable.o)) {
    py::Ref name = py::Ref::steal(_PyObject_FunctionStr(callee));
    if (name) {
      PyErr_Format(PyExc_TypeError, "%U argument after * must be an iterable, not %.200s",
                   name.get(), Py_TYPE(iterable.o)->tp_name);
    }
    return false;
  }
  Val list;
  if (!to_list(frame, iterable, &list)) return false;
  *result = {PyList_AsTuple(list.o), nullptr};
  Py_DECREF(list.o);
  return result->o != nullptr;
}

}  // namespace fulmen::interp
