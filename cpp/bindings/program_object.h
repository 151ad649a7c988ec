#pragma once

#include <Python.h>
#include <structmember.h>

#include <memory>

#include "exec/program.h"

namespace fulmen::bindings {

// The program that a Python object of type Program holds; null for another object.
std::shared_ptr<const exec::Program> program_of(PyObject* object);

}  // namespace fulmen::bindings
