#pragma once

#include <ATen/core/Tensor.h>
#include <Python.h>

#include <string>
#include <vector>

#include "exec/kernel.h"

namespace fulmen::bridge {

// What an implementation of the user's must keep to: its results are of the type that metadata
// says, it writes to no argument, and gradients go through it where they have to. Results in other
// strides, or that share storage with an argument, are copied. The GIL must be held.
class Contract {
 public:
  Contract(const BoundSymbol& bsym, const exec::SlotOf& slot_of);

  // The versions of the arguments.
  std::vector<int64_t> before(exec::Slot* slots) const;
  // Throws python_error for what breaks the contract, once the results are in their slots.
  void check(exec::Slot* slots, const std::vector<int64_t>& versions) const;
  // Throws python_error: the implementation returned `value` where a sequence of `expected` values
  // (-1: one value) was due.
  [[noreturn]] void refuse_structure(PyObject* value, Py_ssize_t expected) const;
  // Throws the error that is set, saying whose it is.
  [[noreturn]] void blame() const;

 private:
  struct Result {
    uint32_t slot;
    TensorType type;
    bool is_view;
  };
  [[noreturn]] void fail(const std::string& what) const;

  std::string name_, where_;
  std::vector<uint32_t> arguments_;
  std::vector<Result> results_;
};

// Throws python_error: UserRuntimeError "executor-kernel", which eager PyTorch is not asked about.
[[noreturn]] void throw_kernel_error(const std::string& message);

}  // namespace fulmen::bridge
