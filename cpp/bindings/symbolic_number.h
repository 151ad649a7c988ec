#pragma once

#include <nanobind/nanobind.h>

namespace fulmen::bindings {

namespace nb = nanobind;

// Who made a symbolic number, and says what becomes of its uses.
class NumberOwner {
 public:
  virtual ~NumberOwner() = default;
  // `function` of operands, of which at least one is symbolic: a number that the program computes,
  // or the plain result where the value must be known. New reference; null with an error set.
  virtual PyObject* compute(PyObject* function, PyObject* const* operands, size_t n) = 0;
  // From here on the program holds for this value only. False with an error set where it can't be
  // had.
  virtual bool needs_value(PyObject* number) = 0;
};

// A number that a program does not know: the Python object that stands for an int or float while a
// call is followed. Arithmetic with it makes others; every other way to its value goes through the
// owner, so that no use of it is missed. It is one that the program was given (cache="symbolic
// values"), or one that the trace computes (tensor.item()).
struct SymbolicNumber {
  // In the call that is followed. Of one that the trace computes: a stand-in of the same type,
  // until that part of the trace has run.
  PyObject* value;
  NumberOwner* owner;         // null once the call has been followed: the number is `value` then
  int slot;                   // where the guard program finds it; -1: the trace computes it
  PyObject* proxy = nullptr;  // then: the NumberProxy. Owned
};

void add_symbolic_number_type(nb::module_& m);
// New reference.
PyObject* make_symbolic_number(PyObject* value, NumberOwner* owner, int slot);
PyObject* make_symbolic_item(PyObject* value, NumberOwner* owner, PyObject* proxy);
// Null if `object` is something else.
SymbolicNumber* symbolic_number(PyObject* object);
// The value, which the program thereby depends on; `object` itself if it is no symbolic number.
// Borrowed; null with an error set where the value can't be had.
PyObject* known_number(PyObject* object);

}  // namespace fulmen::bindings
