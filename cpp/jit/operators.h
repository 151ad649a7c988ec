#pragma once

#include <Python.h>

namespace fulmen::jit {

// The method of torch.Tensor behind an operator, as Hooks::operate names it; `reflected`: the
// tensor is the second operand. Null (no error set) where there is none. Borrowed.
PyObject* operator_method(int op, bool reflected);

// `a += b` and its like.
bool is_inplace_operator(int op);

}  // namespace fulmen::jit
