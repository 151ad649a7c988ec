#pragma once

#include "ops/pointwise.h"

namespace fulmen::ops {

// Operators for decompositions and vjps, recorded in the current builder.
inline Arg operator+(const Arg& a, const Arg& b) { return add(a, b); }
inline Arg operator-(const Arg& a, const Arg& b) { return sub(a, b); }
inline Arg operator*(const Arg& a, const Arg& b) { return a.is_number() ? mul(b, a) : mul(a, b); }
inline Arg operator/(const Arg& a, const Arg& b) { return div(a, b); }
inline Arg operator-(const Arg& a) { return neg(a); }

}  // namespace fulmen::ops
