#include "py/exception.h"

namespace fulmen::py {

PyObject* fetch_exception() {
#if FULMEN_PY_312_UP
  return PyErr_GetRaisedException();
#else
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (!type) return nullptr;
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback) PyException_SetTraceback(value, traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  return value;
#endif
}

void restore_exception(PyObject* exception) {
#if FULMEN_PY_312_UP
  PyErr_SetRaisedException(exception);
#else
  PyErr_Restore(Py_NewRef(reinterpret_cast<PyObject*>(Py_TYPE(exception))), exception,
                PyException_GetTraceback(exception));
#endif
}

void raise_exception(PyObject* exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception)), exception);
}

PyObject* handled_exception(PyThreadState* thread) {
  for (_PyErr_StackItem* item = thread->exc_info; item; item = item->previous_item) {
    if (item->exc_value && item->exc_value != Py_None) return item->exc_value;
  }
  return nullptr;
}

namespace {

// An instance from what stands after `raise` or `from`; null with an exception set.
PyObject* instantiate(PyObject* exception) {
  PyObject* instance = PyObject_CallNoArgs(exception);
  if (instance && !PyExceptionInstance_Check(instance)) {
    PyErr_Format(PyExc_TypeError,
                 "calling %R should have returned an instance of BaseException, not %R", exception,
                 Py_TYPE(instance));
    Py_CLEAR(instance);
  }
  return instance;
}

}  // namespace

void raise_with_cause(PyObject* exception, PyObject* cause) {
  PyObject* instance;
  if (PyExceptionClass_Check(exception)) {
    instance = instantiate(exception);
    if (!instance) return;
  } else if (PyExceptionInstance_Check(exception)) {
    instance = Py_NewRef(exception);
  } else {
    PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    return;
  }
  if (cause) {
    PyObject* fixed;
    if (PyExceptionClass_Check(cause)) {
#if FULMEN_PY_313
      fixed = instantiate(cause);
#else
      fixed = PyObject_CallNoArgs(cause);
#endif
      if (!fixed) {
        Py_DECREF(instance);
        return;
      }
    } else if (PyExceptionInstance_Check(cause)) {
      fixed = Py_NewRef(cause);
    } else if (cause == Py_None) {
      fixed = nullptr;
    } else {
      PyErr_SetString(PyExc_TypeError, "exception causes must derive from BaseException");
      Py_DECREF(instance);
      return;
    }
    PyException_SetCause(instance, fixed);
  }
  raise_exception(instance);
  Py_DECREF(instance);
}

void raise_from_current(PyObject* type, const char* message) {
  PyObject* cause = fetch_exception();
  PyErr_SetString(type, message);
  PyObject* raised = fetch_exception();
  PyException_SetCause(raised, Py_NewRef(cause));
  PyException_SetContext(raised, cause);
  restore_exception(raised);
}

}  // namespace fulmen::py
