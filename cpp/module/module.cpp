#include <nanobind/nanobind.h>

#include "bindings/bind.h"
#include "bindings/dispatch.h"
#include "interp/interpreter.h"
#include "interp/python_functions.h"
#include "jit/bind_jit.h"

NB_MODULE(_core, m) {
  m.doc() = "Fulmen's C++ core.";
  // Caches of torch.compile keep programs alive past the interpreter; that is no leak.
  nanobind::set_leak_warnings(false);
  fulmen::bindings::bind_errors(m);
  fulmen::bindings::bind_proxies(m);
  fulmen::bindings::bind_ir(m);
  fulmen::bindings::bind_recorder(m);
  fulmen::bindings::bind_executors(m);
  fulmen::bindings::bind_program(m);
  fulmen::bindings::bind_passes(m);
  fulmen::bindings::add_dispatch_type(m);
  if (!fulmen::interp::init() || !fulmen::interp::add_functions(m.ptr()))
    throw nanobind::python_error();
  fulmen::jit::bind_jit(m);
}
