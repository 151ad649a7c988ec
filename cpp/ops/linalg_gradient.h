#pragma once

#include "ir/builder.h"

// Gradient rules of rows in linalg.h. Where a rule is Unsupported, PyTorch's own is used.
namespace fulmen::ops {

Args inverse_vjp(Call& in, const Arg& out, const Arg& grad);   // (inverse, info) too
Args cholesky_vjp(Call& in, const Arg& out, const Arg& grad);  // (factor, info) too
Args solve_vjp(Call& in, const Arg& out, const Arg& grad);
Args solve_triangular_vjp(Call& in, const Arg& out, const Arg& grad);
Args log_determinant_vjp(Call& in, const Arg& out, const Arg& grad);  // (sign, logarithm) too
Args determinant_vjp(Call& in, const Arg& out, const Arg& grad);  // of (determinant, LU, pivots)
Args cholesky_solve_vjp(Call& in, const Arg& out, const Arg& grad);
Args cholesky_inverse_vjp(Call& in, const Arg& out, const Arg& grad);
Args qr_vjp(Call& in, const Arg& out, const Arg& grad);
Args eig_vjp(Call& in, const Arg& out, const Arg& grad);        // of the values alone
Args lu_factor_vjp(Call& in, const Arg& out, const Arg& grad);  // (LU, pivots, info) too
Args lu_solve_vjp(Call& in, const Arg& out, const Arg& grad);
Args eigh_vjp(Call& in, const Arg& out, const Arg& grad);
Args svd_vjp(Call& in, const Arg& out, const Arg& grad);
Args matrix_exp_vjp(Call& in, const Arg& out, const Arg& grad);
Args cross_vjp(Call& in, const Arg& out, const Arg& grad);
Args vecdot_vjp(Call& in, const Arg& out, const Arg& grad);
Args trace_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
