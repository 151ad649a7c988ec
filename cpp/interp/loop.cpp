// The instruction loop. Handlers do the cheap cases here and leave the rest to the protocols.
#include <cstring>

#include "interp/loop_macros.h"
#include "interp/protocol.h"
#include "interp/slots.h"
#include "interp/unwind.h"
#include "py/exception.h"
#include "py/names.h"

namespace fulmen::interp {

namespace names = py::names;

namespace {

// Where DICT_MERGE finds the callable, for its error.
#if FULMEN_PY_313
constexpr int kCallableBelowKwargs = 4;
#else
constexpr int kCallableBelowKwargs = 3;
#endif

template <bool kTraced>
Exit run_loop(Frame& f, bool raised, Val* result) {
  Code* const code = f.code;
  PyCodeObject* const object = code->object;
  py::NativeFrame* const native = f.native;
  PyThreadState* const thread = f.context->thread;
  py::CodeUnit* const units = py::code_units(object);
  const Inst* const insts = code->insts.data();
  PyObject* const* const names = &PyTuple_GET_ITEM(object->co_names, 0);
  PyObject* const* const consts = &PyTuple_GET_ITEM(object->co_consts, 0);
  PyObject** const locals = f.locals;
  PyObject** sp = f.top;
  const Inst* ip = insts + f.pc;
  const Inst* in = ip;
  Val r;  // one result slot for all handlers keeps the C frame small
  // From a slot to the slot of its provenance.
  const ptrdiff_t to_prov =
      kTraced ? reinterpret_cast<char*>(f.provs) - reinterpret_cast<char*>(locals) : 0;

  static const void* const kLabels[] = {
#define OP(name, pops, pushes) &&L_##name,
#include "interp/ops.def"
#undef OP
  };

  if (raised) {
    in = ip;
    goto error;
  }
  NEXT();

#include "interp/handlers_basic.inc"
#include "interp/handlers_build.inc"
#include "interp/handlers_call.inc"
#include "interp/handlers_control.inc"

error:
  f.pc = static_cast<uint32_t>(in - insts);
  native->position = units + in->unit;
  if (!PyErr_Occurred()) {
    PyErr_Format(PyExc_SystemError, "%s failed without an exception", op_name(in->op));
  }
  py::add_traceback(thread, native);
unwind:
  f.top = sp;
  f.pc = static_cast<uint32_t>(in - insts);
  if (enter_handler(f)) {
    sp = f.top;
    ip = insts + f.pc;
    NEXT();
  }
  sp = f.top;
  return Exit::kError;
}

}  // namespace

Exit run(Frame& frame, bool raised, Val* result) {
  return frame.hooks ? run_loop<true>(frame, raised, result)
                     : run_loop<false>(frame, raised, result);
}

}  // namespace fulmen::interp
