#include "interp/python_functions.h"

#include "interp/code.h"
#include "interp/interpreter.h"

namespace fulmen::interp {

namespace {

thread_local Counters last;

PyObject* interpret_function(PyObject*, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  count = PyVectorcall_NARGS(count);
  if (count < 1) {
    PyErr_SetString(
        PyExc_TypeError,
        "interpret(): got no function to call; expected interpret(fn, *args, **kwargs)");
    return nullptr;
  }
  return interpret(args[0], args + 1, count - 1, names, /*intercept=*/true, &last);
}

PyObject* last_counters(PyObject*, PyObject*) {
  return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K}", "frames", last.frames, "lookasides",
                       last.lookasides, "opaque", last.opaque, "refused", last.refused,
                       "intercepted", last.intercepted);
}

PyObject* decode_text(PyObject*, PyObject* code) {
  if (PyFunction_Check(code)) code = reinterpret_cast<PyFunctionObject*>(code)->func_code;
  if (!PyCode_Check(code)) {
    return PyErr_Format(PyExc_TypeError,
                        "decode_text(): got %.100s; expected a function or a code object",
                        Py_TYPE(code)->tp_name);
  }
  Code* made = decoded(reinterpret_cast<PyCodeObject*>(code));
  if (!made) return nullptr;
  const std::string text = disassemble(*made);
  return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

PyObject* status(PyObject*, PyObject* name) {
  const char* text = PyUnicode_AsUTF8(name);
  if (!text) return nullptr;
  const char* known = opcode_status(text);
  if (!known) Py_RETURN_NONE;
  return PyUnicode_FromString(known);
}

PyMethodDef functions[] = {
    {"interpret", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(interpret_function)),
     METH_FASTCALL | METH_KEYWORDS,
     "interpret(fn, /, *args, **kwargs)\n--\n\n"
     "Calls fn(*args, **kwargs) on Fulmen's own interpreter.\n\n"
     "The result, the exceptions with their tracebacks, and every side effect are those of a "
     "plain\n"
     "call. Python code that fn reaches is interpreted too; C code is called."},
    {"last_counters", last_counters, METH_NOARGS,
     "last_counters()\n--\n\nWhat the last interpret() of this thread did."},
    {"decode_text", decode_text, METH_O,
     "decode_text(code, /)\n--\n\nThe canonical instructions of a function or code object."},
    {"opcode_status", status, METH_O,
     "opcode_status(name, /)\n--\n\n'decoded', 'refused', or None for an opcode that is unknown."},
    {},
};

}  // namespace

bool add_functions(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace fulmen::interp
