#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of matmul.cpp.
#define FULMEN_MATMUL_OPS(X)                                                                       \
  X(matmul)                                                                                        \
  X(matmul_reversed) X(mm) X(bmm) X(mv) X(dot) X(vdot) X(inner) X(outer) X(addmm) X(addmv) X(addr) \
      X(baddbmm) X(addbmm) X(linear) X(bilinear) X(einsum)

#define X(name) extern const Symbol name;
FULMEN_MATMUL_OPS(X)
#undef X

}  // namespace fulmen::ops
