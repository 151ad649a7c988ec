// isinstance() and issubclass().
#include "interp/protocol.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

int check(Frame& frame, Val object, Val type, PyObject* name, int (*native)(PyObject*, PyObject*)) {
  if (PyType_CheckExact(type.o)) return native(object.o, type.o);
  if (PyTuple_Check(type.o)) {
    if (Py_EnterRecursiveCall(name == names::__instancecheck__ ? " in __instancecheck__"
                                                               : " in __subclasscheck__")) {
      return -1;
    }
    int answer = 0;
    for (Py_ssize_t i = 0, n = PyTuple_GET_SIZE(type.o); i < n && answer == 0; i++) {
      const Val one{PyTuple_GET_ITEM(type.o, i), nullptr};
      answer = name == names::__instancecheck__ ? is_instance(frame, object, one)
                                                : is_subclass(frame, object, one);
    }
    Py_LeaveRecursiveCall();
    return answer;
  }
  PyObject* method = type_lookup(frame, Py_TYPE(type.o), name);
  if (!method || !PyFunction_Check(method)) return native(object.o, type.o);
  Val answer;
  py::Ref keep = py::Ref::borrow(method);
  if (Py_EnterRecursiveCall(name == names::__instancecheck__ ? " in __instancecheck__"
                                                             : " in __subclasscheck__")) {
    return -1;
  }
  const bool ok = call_with(frame, {method, nullptr}, {type, object}, &answer);
  Py_LeaveRecursiveCall();
  if (!ok) return -1;
  const int t = truth(frame, answer);
  Py_DECREF(answer.o);
  return t;
}

}  // namespace

int is_instance(Frame& frame, Val object, Val type) {
  if (frame.hooks && !frame.hooks->read(frame, Read::kType, object, nullptr, &type)) return -1;
  if (reinterpret_cast<PyObject*>(Py_TYPE(object.o)) == type.o) return 1;
  return check(frame, object, type, names::__instancecheck__, PyObject_IsInstance);
}

int is_subclass(Frame& frame, Val type, Val base) {
  return check(frame, type, base, names::__subclasscheck__, PyObject_IsSubclass);
}

}  // namespace fulmen::interp
