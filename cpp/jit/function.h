#pragma once

#include <nanobind/nanobind.h>

#include "jit/entry.h"

namespace fulmen::jit {

// Adds the type JitFunction: a callable that keeps the specializations of a jitted function and
// runs the first whose guards hold. JitFunction(fn, on_miss): a call that finds none returns
// on_miss(self, call, args, kwargs).
void add_function_type(nanobind::module_& m);

// Makes `entry` the first specialization of a JitFunction.
void add_entry(PyObject* function, std::shared_ptr<Entry> entry);

}  // namespace fulmen::jit
