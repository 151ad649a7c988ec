// `with` and `async with`.
#include "interp/protocol.h"
#include "py/names.h"
#include "py/private_api.h"

namespace fulmen::interp {

namespace names = py::names;

bool enter_context(Frame& frame, Val manager, bool async, Val* exit, Val* entered) {
  PyObject* enter_name = async ? names::__aenter__ : names::__enter__;
  PyObject* exit_name = async ? names::__aexit__ : names::__exit__;
  const char* protocol = async ? "asynchronous context manager" : "context manager";
  const char* type = Py_TYPE(manager.o)->tp_name;
  Val enter;
  int has = lookup_special(frame, manager, enter_name, &enter);
  if (has <= 0) {
    if (has == 0) {
      PyErr_Format(PyExc_TypeError, "'%.200s' object does not support the %s protocol", type,
                   protocol);
    }
    return false;
  }
  has = lookup_special(frame, manager, exit_name, exit);
  if (has <= 0) {
    Py_DECREF(enter.o);
    if (has == 0) {
      PyErr_Format(PyExc_TypeError,
                   "'%.200s' object does not support the %s protocol (missed %U method)", type,
                   protocol, exit_name);
    }
    return false;
  }
  const bool ok = call_with(frame, enter, {}, entered);
  Py_DECREF(enter.o);
  if (!ok) Py_CLEAR(exit->o);
  return ok;
}

}  // namespace fulmen::interp
