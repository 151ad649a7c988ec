#pragma once

#include <ATen/core/ivalue.h>
#include <Python.h>

namespace fulmen::bridge {

// Tensors, numbers, None and sequences of these. Both need the GIL.
PyObject* to_python(const c10::IValue& value);  // new reference, or null with an error set
c10::IValue from_python(PyObject* object);      // throws python_error for another type

}  // namespace fulmen::bridge
