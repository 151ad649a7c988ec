#pragma once

#include <nanobind/nanobind.h>

namespace fulmen::jit {

void bind_jit(nanobind::module_& m);  // acquire, Acquired, JitFunction, call rules

}  // namespace fulmen::jit
