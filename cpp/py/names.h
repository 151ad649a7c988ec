// Interned strings that the interpreter compares by identity. Made once, by init_names().
#pragma once
#include "py/version.h"

#define FULMEN_PY_NAMES(X)                                                                         \
  X(__abs__)                                                                                       \
  X(__add__)                                                                                       \
  X(__all__)                                                                                       \
  X(__aenter__) X(__aexit__) X(__aiter__) X(__and__) X(__anext__) X(__annotations__) X(            \
      __await__) X(__bool__) X(__build_class__) X(__builtins__) X(__bytes__) X(__call__)           \
      X(__class__) X(__class_getitem__) X(__classcell__) X(__contains__) X(__del__) X(             \
          __delattr__) X(__delete__) X(__delitem__) X(__dict__) X(__dir__) X(__divmod__)           \
          X(__doc__) X(__enter__) X(__eq__) X(__exit__) X(__float__) X(__floordiv__) X(            \
              __format__) X(__ge__) X(__get__) X(__getattr__) X(__getattribute__) X(__getitem__)   \
              X(__gt__) X(__hash__) X(__iadd__) X(__iand__) X(__ifloordiv__) X(__ilshift__) X(     \
                  __imatmul__) X(__imod__) X(__import__) X(__imul__) X(__index__) X(__init__)      \
                  X(__instancecheck__) X(__int__) X(__invert__) X(__ior__) X(__ipow__) X(          \
                      __irshift__) X(__isub__) X(__iter__) X(__itruediv__) X(__ixor__) X(__le__)   \
                      X(__len__) X(__length_hint__) X(__lshift__) X(__lt__) X(__match_args__) X(   \
                          __matmul__) X(__metaclass__) X(__missing__) X(__mod__) X(__module__)     \
                          X(__mro_entries__) X(__mul__) X(__name__) X(__ne__) X(__neg__)           \
                              X(__new__) X(__next__) X(__or__) X(__orig_bases__) X(__pos__) X(     \
                                  __pow__) X(__prepare__) X(__qualname__) X(__radd__) X(__rand__)  \
                                  X(__repr__) X(__reversed__) X(__rfloordiv__) X(__rlshift__) X(   \
                                      __rmatmul__) X(__rmod__) X(__rmul__) X(__ror__) X(__rpow__)  \
                                      X(__rrshift__) X(__rshift__) X(__rsub__) X(__rtruediv__) X(  \
                                          __rxor__) X(__set__)                                     \
                                          X(__setattr__) X(__setitem__) X(__spec__) X(__str__)     \
                                              X(__sub__) X(__set_name__) X(__subclasscheck__)      \
                                                  X(__truediv__) X(__type_params__) X(__wrapped__) \
                                                      X(__xor__) X(_initializing) X(args) X(attr)  \
                                                          X(bases) X(close) X(extend) X(func)      \
                                                              X(get) X(key) X(keys) X(keywords)    \
                                                                  X(metaclass) X(name)             \
                                                                      X(print_file_and_line)       \
                                                                          X(reverse) X(send)       \
                                                                              X(strict)

namespace fulmen::py::names {

#define X(name) extern PyObject* name;
FULMEN_PY_NAMES(X)
#undef X

bool init();  // false with an exception set

}  // namespace fulmen::py::names
