// exec(), eval() and what else runs code objects.
#include "interp/lookaside.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// Where exec() and eval() run: what was given, or the calling frame's.
struct Space {
  py::Ref globals;
  py::Ref locals;
};

// Comprehensions inlined into a class body or module keep their variables out of its locals; only
// CPython knows which of them are live.
bool has_hidden_locals(PyCodeObject* code) {
#if FULMEN_PY_312
  constexpr char kHidden = 0x10;
  const char* kinds = PyBytes_AS_STRING(code->co_localspluskinds);
  for (int i = 0; i < code->co_nlocalsplus; i++) {
    if (kinds[i] & kHidden) return true;
  }
#else
  (void)code;
#endif
  return false;
}

// kDecline: the builtin says what is wrong.
Looked find_space(Frame& frame, PyObject* globals, PyObject* locals, Space* space) {
  if (globals == Py_None) globals = nullptr;
  if (locals == Py_None) locals = nullptr;
  if (locals && !PyMapping_Check(locals)) return Looked::kDecline;
  if (globals) {
    if (!PyDict_Check(globals)) return Looked::kDecline;
    if (!locals) locals = globals;
  } else {
    if (!frame.native || has_hidden_locals(frame.code_object())) return Looked::kDecline;
    globals = frame.globals();
    if (!locals) {
#if FULMEN_PY_313
      space->locals = py::Ref::steal(PyEval_GetFrameLocals());
#else
      space->locals = py::Ref::borrow(PyEval_GetLocals());
#endif
      if (!space->locals) return Looked::kError;
    }
  }
  space->globals = py::Ref::borrow(globals);
  if (!space->locals) space->locals = py::Ref::borrow(locals);
  const int has = PyDict_Contains(globals, names::__builtins__);
  if (has < 0) return Looked::kError;
  if (!has && PyDict_SetItem(globals, names::__builtins__, PyEval_GetBuiltins()) < 0) {
    return Looked::kError;
  }
  return Looked::kDone;
}

// The code object of a source text; null and no exception when the builtin had better do it.
py::Ref compile_source(PyObject* source, const char* mode) {
  if (!PyUnicode_Check(source) && !PyBytes_Check(source)) return {};
  py::Ref text = py::Ref::borrow(source);
  if (*mode == 'e') {  // eval() ignores blanks before an expression
    text = py::Ref::steal(
        PyObject_CallMethod(source, "lstrip", PyBytes_Check(source) ? "y" : "s", " \t"));
    if (!text) return {};
  }
  // compile() takes over the future statements of the frame that calls it, as exec() does.
  PyObject* compile = PyDict_GetItemString(PyEval_GetBuiltins(), "compile");
  if (!compile || !PyCFunction_Check(compile)) return {};
  return py::Ref::steal(PyObject_CallFunction(compile, "Oss", text.get(), "<string>", mode));
}

bool run_in(Frame& frame, PyObject* code, const Space& space, Val* result) {
  py::Ref function = py::Ref::steal(PyFunction_New(code, space.globals.get()));
  return function && run_code(frame, reinterpret_cast<PyFunctionObject*>(function.get()),
                              space.locals.get(), result);
}

Looked run_source(Frame& frame, const Args& args, const char* mode, Val* result) {
  if (args.names || args.count < 1 || args.count > 3) return Looked::kDecline;
  Space space;
  PyObject* source = args.objects[0];
  const Looked ready = find_space(frame, args.count > 1 ? args.objects[1] : nullptr,
                                  args.count > 2 ? args.objects[2] : nullptr, &space);
  if (ready != Looked::kDone) return ready;
  py::Ref code;
  if (PyCode_Check(source)) {
    code = py::Ref::borrow(source);
    if (PySys_Audit("exec", "O", source) < 0) return Looked::kError;
  } else {
    code = compile_source(source, mode);
    if (!code) return PyErr_Occurred() ? Looked::kError : Looked::kDecline;
  }
  auto* object = reinterpret_cast<PyCodeObject*>(code.get());
  Code* form = decoded(object);
  if (!form) return Looked::kError;
  if (object->co_nfreevars || form->refusal || form->makes_generator ||
      must_run_natively(frame.context)) {
    return Looked::kDecline;
  }
  return done(run_in(frame, code.get(), space, result));
}

Looked exec(Frame& frame, Val, const Args& args, Val* result) {
  Val value;
  const Looked looked = run_source(frame, args, "exec", &value);
  if (looked == Looked::kDone) {
    Py_DECREF(value.o);
    *result = {Py_NewRef(Py_None), nullptr};
  }
  return looked;
}

Looked eval(Frame& frame, Val, const Args& args, Val* result) {
  return run_source(frame, args, "eval", result);
}

}  // namespace

bool init_execution_lookasides() {
  return register_builtin("exec", exec) && register_builtin("eval", eval);
}

}  // namespace fulmen::interp
