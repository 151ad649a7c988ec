#pragma once

#include <string_view>

#include "codegen/cpu/isa.h"
#include "codegen/cpu/vector_builder.h"

namespace fulmen::codegen::cpu {

// Elementary functions of vectors of float32 and float64.
//
// float32: what models use is inlined, within 2 units in the last place of the exact result, with
// NaN, infinities, signed zeros and subnormals as in C. The rest, and float64, calls SLEEF, which
// PyTorch's library exports for AVX2 and AVX-512, or the C library element by element.
class VectorMath {
 public:
  VectorMath(VectorBuilder& builder, const Isa& isa) : b_(builder), isa_(isa) {}

  // `kind`: the element type.
  Value exp(Value x, TypeRef kind);
  Value expm1(Value x, TypeRef kind);
  Value log(Value x, TypeRef kind);
  Value log1p(Value x, TypeRef kind);
  Value tanh(Value x, TypeRef kind);
  Value sigmoid(Value x, TypeRef kind);
  Value erf(Value x, TypeRef kind);
  // Of float32, with an error of 1e-7: relative to 1, not to the result.
  Value absolute_erf(Value x);
  // Of float32, with an error of 6 units in the last place, 3e-7: for what is rounded to a half
  // type.
  Value coarse_erf(Value x);
  Value sin(Value x, TypeRef kind) { return sine(x, kind, false); }
  Value cos(Value x, TypeRef kind) { return sine(x, kind, true); }
  Value sinh(Value x, TypeRef kind, bool cosine = false);   // or cosh
  Value asinh(Value x, TypeRef kind, bool cosine = false);  // or acosh
  Value sqrt(Value x) { return b_.intrinsic("llvm.sqrt", {x}); }

  // A function of SLEEF, and of the C library where that has no vector form: "pow", "atan2", … with
  // SLEEF's accuracy ("u10", "" where there is none).
  Value library(std::string_view name, std::string_view accuracy, TypeRef kind,
                std::initializer_list<Value> args);
  // A function that is only known for one element.
  Value elementwise(const std::string& name, TypeRef result, std::initializer_list<Value> args);

 private:
  // e^x = 2^n * (1 + tail), |tail| < 0.42; `shifted` has n in its lowest bits.
  struct ReducedExp {
    Value shifted, n, tail;
  };
  ReducedExp reduced_exp(Value x);  // float32 from -128 to 128
  Value polynomial(Value x, std::initializer_list<double> coefficients);  // highest power first
  Value power_of_two(Value n);                                            // of int32, no overflow
  Value exp_nonpositive(Value x);                                         // float32, x <= 0
  Value sine(Value x, TypeRef kind, bool cosine);
  Value any(Value mask);

  VectorBuilder& b_;
  const Isa& isa_;
};

}  // namespace fulmen::codegen::cpu
