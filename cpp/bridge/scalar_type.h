#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <optional>

#include "ir/device.h"
#include "ir/dtype.h"

namespace fulmen::bridge {

#define FULMEN_SCALAR_TYPES(X)                                                                     \
  X(kBool, Bool)                                                                                   \
  X(kUInt8, Byte) X(kInt8, Char) X(kInt16, Short) X(kInt32, Int) X(kInt64, Long)                   \
      X(kUInt16, UInt16) X(kUInt32, UInt32) X(kUInt64, UInt64) X(kFloat16, Half)                   \
          X(kBFloat16, BFloat16) X(kFloat32, Float) X(kFloat64, Double) X(kComplex32, ComplexHalf) \
              X(kComplex64, ComplexFloat) X(kComplex128, ComplexDouble)                            \
                  X(kFloat8E4M3FN, Float8_e4m3fn) X(kFloat8E5M2, Float8_e5m2)                      \
                      X(kFloat8E4M3FNUZ, Float8_e4m3fnuz) X(kFloat8E5M2FNUZ, Float8_e5m2fnuz)      \
                          X(kFloat8E8M0FNU, Float8_e8m0fnu)

inline c10::ScalarType to_scalar_type(DType t) {
  switch (t) {
#define X(ours, torch) \
  case DType::ours: return c10::ScalarType::torch;
    FULMEN_SCALAR_TYPES(X)
#undef X
  }
  return c10::ScalarType::Undefined;
}

inline std::optional<DType> from_scalar_type(c10::ScalarType t) {
  switch (t) {
#define X(ours, torch) \
  case c10::ScalarType::torch: return DType::ours;
    FULMEN_SCALAR_TYPES(X)
#undef X
    default: return std::nullopt;
  }
}

c10::Device to_c10(Device d);

}  // namespace fulmen::bridge
