#pragma once

#include <nanobind/nanobind.h>

namespace fulmen::bindings {

// Adds `Dispatch`, the object that a user calls: see dispatch.cpp.
void add_dispatch_type(nanobind::module_& m);

}  // namespace fulmen::bindings
