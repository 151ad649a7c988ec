// getattr(), len(), isinstance() and the like.
#include "interp/lookaside.h"
#include "interp/slots.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

bool plain(const Args& args, Py_ssize_t least, Py_ssize_t most) {
  return !args.names && args.count >= least && args.count <= most;
}

// An interned copy of an attribute's name; null without an exception when it is not a string.
py::Ref interned(PyObject* name) {
  if (!PyUnicode_Check(name)) return {};
  PyObject* own = Py_NewRef(name);
  if (PyUnicode_CheckExact(own)) PyUnicode_InternInPlace(&own);
  return py::Ref::steal(own);
}

Looked get_attr(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 3)) return Looked::kDecline;
  const py::Ref name = interned(args.objects[1]);
  if (!name) return Looked::kDecline;
  if (args.count == 2) return done(load_attr(frame, args.at(0), name.get(), result));
  const int has = lookup_attr(frame, args.at(0), name.get(), result);
  if (has == 0) {
    *result = args.at(2);
    Py_INCREF(result->o);
  }
  return done(has >= 0);
}

Looked has_attr(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 2)) return Looked::kDecline;
  const py::Ref name = interned(args.objects[1]);
  if (!name) return Looked::kDecline;
  const int has = lookup_attr(frame, args.at(0), name.get(), result);
  if (has < 0) return Looked::kError;
  if (has) Py_DECREF(result->o);
  *result = {Py_NewRef(has ? Py_True : Py_False), nullptr};
  return Looked::kDone;
}

Looked set_attr(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 3, 3)) return Looked::kDecline;
  const py::Ref name = interned(args.objects[1]);
  if (!name || !store_attr(frame, args.at(0), name.get(), args.at(2))) {
    return name ? Looked::kError : Looked::kDecline;
  }
  *result = {Py_NewRef(Py_None), nullptr};
  return Looked::kDone;
}

Looked del_attr(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 2)) return Looked::kDecline;
  const py::Ref name = interned(args.objects[1]);
  if (!name || !store_attr(frame, args.at(0), name.get(), {})) {
    return name ? Looked::kError : Looked::kDecline;
  }
  *result = {Py_NewRef(Py_None), nullptr};
  return Looked::kDone;
}

Looked isinstance(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 2)) return Looked::kDecline;
  const int is = is_instance(frame, args.at(0), args.at(1));
  if (is < 0) return Looked::kError;
  *result = {Py_NewRef(is ? Py_True : Py_False), nullptr};
  return Looked::kDone;
}

Looked issubclass(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 2)) return Looked::kDecline;
  const int is = is_subclass(frame, args.at(0), args.at(1));
  if (is < 0) return Looked::kError;
  *result = {Py_NewRef(is ? Py_True : Py_False), nullptr};
  return Looked::kDone;
}

Looked len(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 1, 1)) return Looked::kDecline;
  return done(length(frame, args.at(0), result));
}

Looked make_bool(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 1, 1)) return Looked::kDecline;
  const int t = truth(frame, args.at(0));
  if (t < 0) return Looked::kError;
  *result = {Py_NewRef(t ? Py_True : Py_False), nullptr};
  return Looked::kDone;
}

Looked make_str(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 1, 1)) return Looked::kDecline;
  return done(convert_value(frame, 1, args.at(0), result));
}

Looked repr(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 1, 1)) return Looked::kDecline;
  return done(convert_value(frame, 2, args.at(0), result));
}

Looked format(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 1, 2) || (args.count == 2 && !PyUnicode_Check(args.objects[1]))) {
    return Looked::kDecline;
  }
  return done(format_value(frame, args.at(0), args.count == 2 ? args.at(1) : Val{}, result));
}

// object.__getattribute__(x, name) and super().__getattribute__(name).
Looked object_getattribute(Frame& frame, Val, const Args& args, Val* result) {
  if (!plain(args, 2, 2) || !PyUnicode_CheckExact(args.objects[1])) return Looked::kDecline;
  const py::Ref name = interned(args.objects[1]);
  PyTypeObject* type = Py_TYPE(args.objects[0]);
  PyObject* descriptor = _PyType_Lookup(type, name.get());
  if (!descriptor || !Py_TYPE(descriptor)->tp_descr_get || !Py_TYPE(descriptor)->tp_descr_set) {
    return Looked::kDecline;
  }
  py::Ref keep = py::Ref::borrow(descriptor);
  return done(
      descriptor_get(frame, descriptor, args.at(0), reinterpret_cast<PyObject*>(type), result));
}

Looked build_class_lookaside(Frame& frame, Val, const Args& args, Val* result) {
  if (args.count < 2 || !PyFunction_Check(args.objects[0]) || !PyUnicode_Check(args.objects[1])) {
    return Looked::kDecline;
  }
  Code* code = decoded(reinterpret_cast<PyCodeObject*>(
      reinterpret_cast<PyFunctionObject*>(args.objects[0])->func_code));
  if (!code) return Looked::kError;
  if (code->refusal || code->makes_generator) return Looked::kDecline;
  return done(build_class(frame, args, result));
}

}  // namespace

bool init_object_lookasides() {
  register_lookaside(reinterpret_cast<PyObject*>(&PyBool_Type), make_bool);
  register_lookaside(reinterpret_cast<PyObject*>(&PyUnicode_Type), make_str);
  return register_builtin("getattr", get_attr) && register_builtin("hasattr", has_attr) &&
         register_builtin("setattr", set_attr) && register_builtin("delattr", del_attr) &&
         register_builtin("isinstance", isinstance) && register_builtin("issubclass", issubclass) &&
         register_builtin("len", len) && register_builtin("repr", repr) &&
         register_builtin("format", format) &&
         register_builtin("__build_class__", build_class_lookaside) &&
         register_method(&PyBaseObject_Type, "__getattribute__", object_getattribute);
}

}  // namespace fulmen::interp
