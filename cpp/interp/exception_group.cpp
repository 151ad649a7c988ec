// except and except*.
#include "interp/protocol.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace {

constexpr const char* kNotException =
    "catching classes that do not inherit from BaseException is not allowed";
constexpr const char* kStarGroup =
    "catching ExceptionGroup with except* is not allowed. Use except instead.";

bool check_classes(PyObject* type) {
  const Py_ssize_t n = PyTuple_Check(type) ? PyTuple_GET_SIZE(type) : 1;
  for (Py_ssize_t i = 0; i < n; i++) {
    PyObject* one = PyTuple_Check(type) ? PyTuple_GET_ITEM(type, i) : type;
    if (!PyExceptionClass_Check(one)) {
      PyErr_SetString(PyExc_TypeError, kNotException);
      return false;
    }
  }
  return true;
}

bool check_star_classes(PyObject* type) {
  if (!check_classes(type)) return false;
  const Py_ssize_t n = PyTuple_Check(type) ? PyTuple_GET_SIZE(type) : 1;
  for (Py_ssize_t i = 0; i < n; i++) {
    PyObject* one = PyTuple_Check(type) ? PyTuple_GET_ITEM(type, i) : type;
    const int group = PyObject_IsSubclass(one, PyExc_BaseExceptionGroup);
    if (group < 0) return false;
    if (group) {
      PyErr_SetString(PyExc_TypeError, kStarGroup);
      return false;
    }
  }
  return true;
}

bool is_group(PyObject* exception) {
  return PyObject_TypeCheck(exception, reinterpret_cast<PyTypeObject*>(PyExc_BaseExceptionGroup));
}

}  // namespace

bool check_exception_match(PyObject* handled, PyObject* type, bool* matches) {
  if (!check_classes(type)) return false;
  *matches = PyErr_GivenExceptionMatches(handled, type);
  return true;
}

bool match_group([[maybe_unused]] Frame& frame, PyObject* exception, PyObject* type,
                 PyObject** match, PyObject** rest) {
  *match = *rest = nullptr;
  if (!check_star_classes(type)) return false;
  if (exception == Py_None) {
    *match = Py_NewRef(Py_None);
    *rest = Py_NewRef(Py_None);
    return true;
  }
  if (PyErr_GivenExceptionMatches(exception, type)) {
    if (is_group(exception)) {
      *match = Py_NewRef(exception);
    } else {
      py::Ref members = py::Ref::steal(PyTuple_Pack(1, exception));
      if (!members) return false;
      py::Ref wrapped =
          py::Ref::steal(PyObject_CallFunction(PyExc_BaseExceptionGroup, "sO", "", members.get()));
      if (!wrapped) return false;
      *match = wrapped.release();
    }
    *rest = Py_NewRef(Py_None);
    return true;
  }
  if (is_group(exception)) {
    py::Ref pair = py::Ref::steal(PyObject_CallMethod(exception, "split", "(O)", type));
    if (!pair) return false;
    if (!PyTuple_CheckExact(pair.get()) || PyTuple_GET_SIZE(pair.get()) < 2) {
#if FULMEN_PY_313
      if (!PyTuple_CheckExact(pair.get())) {
        PyErr_Format(PyExc_TypeError, "%.200s.split must return a tuple, not %.200s",
                     Py_TYPE(exception)->tp_name, Py_TYPE(pair.get())->tp_name);
      } else {
        PyErr_Format(PyExc_TypeError, "%.200s.split must return a 2-tuple, got tuple of size %zd",
                     Py_TYPE(exception)->tp_name, PyTuple_GET_SIZE(pair.get()));
      }
#else
      PyErr_SetString(PyExc_TypeError, "split must return a tuple of two");
#endif
      return false;
    }
    *match = Py_NewRef(PyTuple_GET_ITEM(pair.get(), 0));
    *rest = Py_NewRef(PyTuple_GET_ITEM(pair.get(), 1));
    return true;
  }
  *match = Py_NewRef(Py_None);
  *rest = Py_NewRef(exception);
  return true;
}

}  // namespace fulmen::interp
