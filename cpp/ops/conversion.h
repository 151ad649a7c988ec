#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// The methods that convert to one dtype: X(row, method, dtype).
#define FULMEN_CAST_OPS(X)                                                                      \
  X(to_float, "float", kFloat32)                                                                \
  X(to_double, "double", kFloat64) X(to_half, "half", kFloat16)                                 \
      X(to_bfloat16, "bfloat16", kBFloat16) X(to_int, "int", kInt32) X(to_long, "long", kInt64) \
          X(to_short, "short", kInt16) X(to_char, "char", kInt8) X(to_byte, "byte", kUInt8)     \
              X(to_bool, "bool", kBool) X(to_cfloat, "cfloat", kComplex64)                      \
                  X(to_cdouble, "cdouble", kComplex128) X(to_chalf, "chalf", kComplex32)

// One name per other row, in the order in which the overloads of one callable are tried.
#define FULMEN_TO_OPS(X) X(to_dtype) X(to_other) X(to_device) X(type_as) X(type) X(cpu) X(cuda)

#define X(name) extern const Symbol name;
FULMEN_TO_OPS(X)
#undef X
#define X(row, method, dtype) extern const Symbol row;
FULMEN_CAST_OPS(X)
#undef X

}  // namespace fulmen::ops
