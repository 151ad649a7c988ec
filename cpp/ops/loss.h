#pragma once

#include "ir/builder.h"
#include "ir/symbol.h"

namespace fulmen::ops {

// One name per row of loss.cpp.
#define FULMEN_LOSS_OPS(X)                                                                   \
  X(cross_entropy)                                                                           \
  X(nll_loss) X(mse_loss) X(l1_loss) X(smooth_l1_loss) X(huber_loss) X(binary_cross_entropy) \
      X(binary_cross_entropy_with_logits) X(kl_div) X(kl_div_batchmean) X(soft_margin_loss)  \
          X(hinge_embedding_loss) X(margin_ranking_loss) X(cosine_embedding_loss)

// The rows of loss_backward.cpp.
#define FULMEN_LOSS_BACKWARD_OPS(X)                                                      \
  X(nll_loss_forward)                                                                    \
  X(nll_loss_backward) X(nll_loss2d_forward) X(nll_loss2d_backward) X(mse_loss_backward) \
      X(smooth_l1_loss_backward) X(huber_loss_backward) X(binary_cross_entropy_backward) \
          X(soft_margin_loss_backward)

#define X(name) extern const Symbol name;
FULMEN_LOSS_OPS(X)
FULMEN_LOSS_BACKWARD_OPS(X)
#undef X

// 'none', 'mean' and 'sum' as ATen counts them.
Arg aten_reduction(const Call& in);
// A gradient rule for losses that treat input and target alike; `extra` is a last argument.
Args symmetric_loss_vjp(Call& in, const Symbol& backward, const Arg& grad, const Arg& extra = {});
// Losses in steps that have gradients, in loss_steps.cpp: those of at::.
Arg cross_entropy_steps(Call& in);
Arg nll_loss_steps(Call& in);
Arg kl_div_steps(Call& in);
Arg hinge_embedding_steps(Call& in);
Arg margin_ranking_steps(Call& in);
Arg cosine_embedding_steps(Call& in);
Args bce_vjp(Call& in, const Arg& out, const Arg& grad);
Args bce_with_logits_vjp(Call& in, const Arg& out, const Arg& grad);

}  // namespace fulmen::ops
