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
  // From here on the program holds for this value only.
  virtual void needs_value(PyObject* number) = 0;
};

// A number that a program does not know: the Python object that stands for an int or float while a
// call is followed (cache="symbolic values"). Arithmetic with it makes others; every other way to
// its value goes through the owner, so that no use of it is missed.
struct SymbolicNumber {
  PyObject* value;     // in the call that is followed
  NumberOwner* owner;  // null once the call has been followed: the number is `value` then
  int slot;            // where the guard program finds it
};

void add_symbolic_number_type(nb::module_& m);
// New reference.
PyObject* make_symbolic_number(PyObject* value, NumberOwner* owner, int slot);
// Null if `object` is something else.
SymbolicNumber* symbolic_number(PyObject* object);
// The value, which the program thereby depends on. Borrowed.
PyObject* known_number(PyObject* object);

}  // namespace fulmen::bindings
