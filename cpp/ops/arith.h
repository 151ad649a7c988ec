#pragma once

#include "ops/pointwise.h"
#include "ops/unary.h"

namespace fulmen::ops {

// Operators for decompositions and vjps, recorded in the current builder. At least one operand is
// a tensor; a number on the left is computed as eager's reflected operators do.
inline Arg operator+(const Arg& a, const Arg& b) { return a.is_tensor() ? add(a, b) : add(b, a); }
inline Arg operator-(const Arg& a, const Arg& b) { return a.is_tensor() ? sub(a, b) : rsub(b, a); }
inline Arg operator*(const Arg& a, const Arg& b) { return a.is_tensor() ? mul(a, b) : mul(b, a); }
inline Arg operator/(const Arg& a, const Arg& b) {
  return a.is_tensor() ? div(a, b) : mul(reciprocal(b), a);
}
inline Arg operator-(const Arg& a) { return neg(a); }

// A vjp's result where only the first parameter has a gradient.
Args first_grad(const Call& in, const Arg& grad);
// Gradients of the leading parameters, None for the others.
Args grads(const Call& in, std::initializer_list<Arg> leading);
// Throws Unsupported for a complex gradient, whose formulas need conjugates.
const Arg& real_grad(const Call& in, const Arg& grad);

// Records a call with one argument for every parameter, keyword-only ones too.
Arg record(const Symbol& symbol, std::initializer_list<Arg> all);
// a * factor; `a` itself for the factor 1. Both may be numbers.
Arg scaled(const Arg& a, const Arg& factor);
// The tensor `a` in another dtype; itself if it has that dtype.
Arg converted(const Arg& a, DType dtype);

// Computes as ATen does on float16 and bfloat16: in float32, rounded once at the end.
class Opmath {
 public:
  // `common`: the dtype that the operation is said to compute in.
  explicit Opmath(DType common);
  // For an operation on the promoted dtype of its tensor arguments.
  explicit Opmath(Call& in);
  // The tensor `a` in float32, where `common` is a half type.
  Arg up(const Arg& a) const;
  // The tensor `a` in `common`.
  Arg down(const Arg& a) const;

 private:
  DType common_;
  bool half_;
};

}  // namespace fulmen::ops
