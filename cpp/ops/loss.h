#pragma once

#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of loss.cpp.
#define FULMEN_LOSS_OPS(X)                                                                   \
  X(cross_entropy)                                                                           \
  X(nll_loss) X(mse_loss) X(l1_loss) X(smooth_l1_loss) X(huber_loss) X(binary_cross_entropy) \
      X(binary_cross_entropy_with_logits) X(kl_div) X(kl_div_batchmean) X(soft_margin_loss)  \
          X(hinge_embedding_loss) X(margin_ranking_loss) X(cosine_embedding_loss)

#define X(name) extern const Symbol name;
FULMEN_LOSS_OPS(X)
#undef X

}  // namespace fulmen::ops
