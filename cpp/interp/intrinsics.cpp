// Instructions that few programs use, left to CPython one at a time.
#include <opcode.h>

#include <string>

#include "interp/native_instruction.h"
#include "py/exception.h"
#include "py/names.h"
#include "py/private_api.h"
#include "py/ref.h"

namespace fulmen::interp {

namespace {

// The code of `f(a, b)` that runs `load operands; opcode arg; return`.
PyObject* make_code(int opcode, int arg, int operands, PyObject* name) {
  std::string units;
  const auto emit = [&](int op, int a) {
    units.push_back(static_cast<char>(op));
    units.push_back(static_cast<char>(a));
  };
  emit(RESUME, 0);
  for (int i = 0; i < operands; i++) emit(LOAD_FAST, i);
  emit(opcode, arg);
  if (name) {  // IMPORT_FROM leaves its module
    emit(SWAP, 2);
    emit(POP_TOP, 0);
  }
  emit(RETURN_VALUE, 0);
  py::Ref space = py::Ref::steal(PyDict_New());
  py::Ref done = space ? py::Ref::steal(PyRun_String("def f(a, b): return None\n", Py_file_input,
                                                     space.get(), space.get()))
                       : py::Ref();
  if (!done) return nullptr;
  PyObject* function = PyDict_GetItemString(space.get(), "f");
  py::Ref code = py::Ref::steal(PyObject_GetAttrString(function, "__code__"));
  py::Ref replace =
      code ? py::Ref::steal(PyObject_GetAttrString(code.get(), "replace")) : py::Ref();
  py::Ref none = py::Ref::steal(PyTuple_New(0));
  py::Ref keywords = py::Ref::steal(Py_BuildValue(
      "{s:y#,s:i,s:y#}", "co_code", units.data(), static_cast<Py_ssize_t>(units.size()),
      "co_stacksize", 8, "co_exceptiontable", "", static_cast<Py_ssize_t>(0)));
  if (!replace || !none || !keywords) return nullptr;
  if (name) {
    py::Ref names = py::Ref::steal(PyTuple_Pack(1, name));
    if (!names || PyDict_SetItemString(keywords.get(), "co_names", names.get()) < 0) return nullptr;
  }
  py::Ref consts = py::Ref::steal(PyTuple_Pack(1, Py_None));
  if (!consts || PyDict_SetItemString(keywords.get(), "co_consts", consts.get()) < 0) {
    return nullptr;
  }
  return PyObject_Call(replace.get(), none.get(), keywords.get());
}

PyObject* run_code_natively(Frame& frame, PyObject* code, PyObject* a, PyObject* b) {
  py::Ref function = py::Ref::steal(PyFunction_New(code, frame.globals()));
  if (!function) return nullptr;
  const OwnCode scope(frame.context);
  PyObject* args[2] = {a ? a : Py_None, b ? b : Py_None};
  PyObject* made = PyObject_Vectorcall(function.get(), args, 2, nullptr);
  if (!made) {  // as if the interpreted frame had run the instruction
    PyObject* error = py::fetch_exception();
    PyException_SetTraceback(error, Py_None);
    py::restore_exception(error);
  }
  return made;
}

}  // namespace

PyObject* native_instruction(Frame& frame, int opcode, int arg, PyObject* a, PyObject* b) {
  py::Ref code = py::Ref::steal(make_code(opcode, arg, b ? 2 : 1, nullptr));
  return code ? run_code_natively(frame, code.get(), a, b) : nullptr;
}

bool intrinsic_1([[maybe_unused]] Frame& frame, [[maybe_unused]] int which,
                 [[maybe_unused]] Val value, Val* result) {
  *result = {};
#if FULMEN_PY_312_UP
  result->o = native_instruction(frame, CALL_INTRINSIC_1, which, value.o, nullptr);
#else
  PyErr_SetString(PyExc_SystemError, "no intrinsics before Python 3.12");
#endif
  return result->o != nullptr;
}

bool intrinsic_2([[maybe_unused]] Frame& frame, [[maybe_unused]] int which, [[maybe_unused]] Val a,
                 [[maybe_unused]] Val b, Val* result) {
  *result = {};
#if FULMEN_PY_312_UP
  result->o = native_instruction(frame, CALL_INTRINSIC_2, which, a.o, b.o);
#else
  PyErr_SetString(PyExc_SystemError, "no intrinsics before Python 3.12");
#endif
  return result->o != nullptr;
}

bool wrap_async_value(Frame& frame, Val value, Val* result) {
#if FULMEN_PY_312_UP
  *result = {native_instruction(frame, CALL_INTRINSIC_1, 4, value.o, nullptr), nullptr};
#else
  *result = {native_instruction(frame, ASYNC_GEN_WRAP, 0, value.o, nullptr), nullptr};
#endif
  return result->o != nullptr;
}

PyObject* prepare_reraise_star(Frame& frame, PyObject* original, PyObject* raised) {
#if FULMEN_PY_312_UP
  (void)frame;
  return PyUnstable_Exc_PrepReraiseStar(original, raised);
#else
  return native_instruction(frame, PREP_RERAISE_STAR, 0, original, raised);
#endif
}

bool import_from_natively(Frame& frame, Val module, PyObject* name, Val* result) {
  py::Ref code = py::Ref::steal(make_code(IMPORT_FROM, 0, 1, name));
  *result = {code ? run_code_natively(frame, code.get(), module.o, nullptr) : nullptr, nullptr};
  return result->o != nullptr;
}

}  // namespace fulmen::interp
