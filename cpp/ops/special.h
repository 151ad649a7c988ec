#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// torch.special: error, gamma and Bessel functions, orthogonal polynomials.
// One name per row, in the order in which overloads are tried; see pointwise.h.
#define FULMEN_SPECIAL_OPS(X)                                                                      \
  X(erf)                                                                                           \
  X(erfc) X(erfinv) X(lgamma) X(digamma) X(i0) X(polygamma) X(special_entr) X(special_erfcx)       \
      X(special_i0e) X(special_i1) X(special_i1e) X(special_ndtr) X(special_ndtri)                 \
          X(special_log_ndtr) X(special_airy_ai) X(special_bessel_j0) X(special_bessel_j1)         \
              X(special_bessel_y0) X(special_bessel_y1) X(special_modified_bessel_i0)              \
                  X(special_modified_bessel_i1) X(special_modified_bessel_k0) X(                   \
                      special_modified_bessel_k1) X(special_scaled_modified_bessel_k0)             \
                      X(special_scaled_modified_bessel_k1) X(special_spherical_bessel_j0) X(       \
                          special_gammainc) X(special_gammaincc) X(xlogy) X(special_xlog1py)       \
                          X(special_zeta) X(special_chebyshev_polynomial_t) X(                     \
                              special_chebyshev_polynomial_u) X(special_chebyshev_polynomial_v)    \
                              X(special_chebyshev_polynomial_w) X(special_hermite_polynomial_h) X( \
                                  special_hermite_polynomial_he) X(special_laguerre_polynomial_l)  \
                                  X(special_legendre_polynomial_p)                                 \
                                      X(special_shifted_chebyshev_polynomial_t)                    \
                                          X(special_shifted_chebyshev_polynomial_u)                \
                                              X(special_shifted_chebyshev_polynomial_v)            \
                                                  X(special_shifted_chebyshev_polynomial_w)

#define X(name) extern const Symbol name;
FULMEN_SPECIAL_OPS(X)
#undef X

}  // namespace fulmen::ops
