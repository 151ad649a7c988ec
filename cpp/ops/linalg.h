#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of linalg.cpp.
#define FULMEN_LINALG_OPS(X)                                                                    \
  X(linalg_inv)                                                                                 \
  X(linalg_inv_ex)                                                                              \
  X(linalg_det)                                                                                 \
  X(linalg_slogdet) X(logdet) X(linalg_cholesky) X(linalg_cholesky_ex) X(cholesky)              \
      X(cholesky_solve) X(cholesky_inverse) X(linalg_eigh) X(linalg_eigvalsh) X(linalg_eig)     \
          X(linalg_eigvals) X(linalg_svd) X(linalg_svdvals) X(linalg_qr) X(linalg_lu_factor)    \
              X(linalg_lu_factor_ex) X(linalg_det_and_lu) X(linalg_lu_solve) X(linalg_matrix_power) X(linalg_solve)                     \
                  X(linalg_solve_triangular) X(matrix_exp) X(linalg_norm) X(linalg_matrix_norm) \
                      X(linalg_diagonal) X(trace) X(linalg_cross) X(linalg_vecdot) X(lu_unpack)

#define X(name) extern const Symbol name;
FULMEN_LINALG_OPS(X)
#undef X

}  // namespace fulmen::ops
