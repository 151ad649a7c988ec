#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of matmul.cpp.
#define FULMEN_MATMUL_OPS(X)                                                                       \
  X(matmul)                                                                                        \
  X(matmul_reversed) X(mm) X(bmm) X(mv) X(dot) X(vdot) X(inner) X(outer) X(addmm) X(addmv) X(addr) \
      X(baddbmm) X(addbmm) X(linear) X(bilinear) X(einsum) X(trilinear)

#define X(name) extern const Symbol name;
FULMEN_MATMUL_OPS(X)
#undef X

// Gradient rules, in matmul_gradient.cpp.
Args mm_vjp(Call& in, const Arg& out, const Arg& grad);
Args bmm_vjp(Call& in, const Arg& out, const Arg& grad);
Args mv_vjp(Call& in, const Arg& out, const Arg& grad);
Args dot_vjp(Call& in, const Arg& out, const Arg& grad);
Args matmul_vjp(Call& in, const Arg& out, const Arg& grad);
Args addmm_vjp(Call& in, const Arg& out, const Arg& grad);
Args addmv_vjp(Call& in, const Arg& out, const Arg& grad);
Args addr_vjp(Call& in, const Arg& out, const Arg& grad);
Args baddbmm_vjp(Call& in, const Arg& out, const Arg& grad);
Args bilinear_vjp(Call& in, const Arg& out, const Arg& grad);
Args linear_vjp(Call& in, const Arg& out, const Arg& grad);
Arg matmul_steps(Call& in);
Arg linear_steps(Call& in);

}  // namespace fulmen::ops
