"""What printed traces call for losses that are computed together with the layer before them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cross_entropy(
    input: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int,
    reduction: str, upcast: bool,
) -> Tensor:  # fmt: skip
    """The cross-entropy of a linear layer's results; `upcast`: of these in float32."""
    scores = F.linear(input, weight, bias)
    return F.cross_entropy(
        scores.float() if upcast else scores, target, ignore_index=ignore_index, reduction=reduction
    )


def linear_cross_entropy_forward(
    input: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int,
    reduction: str, upcast: bool, for_input: bool, for_weight: bool, for_bias: bool,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The loss, and its gradients that are asked for, in float32 at least."""
    loss = linear_cross_entropy(input, weight, bias, target, ignore_index, reduction, upcast)
    with torch.no_grad():
        kept = torch.promote_types(input.dtype, torch.float32)
        x, w = input.to(kept), weight.to(kept)
        counted = target != ignore_index
        slopes = F.linear(x, w, None if bias is None else bias.to(kept)).softmax(-1)
        own = torch.zeros_like(slopes)
        own.scatter_(1, target.where(counted, 0).unsqueeze(1), 1.0)
        slopes = (slopes - own).masked_fill(~counted.unsqueeze(1), 0.0)
        if reduction == "mean":
            slopes = slopes / counted.sum()
            slopes = slopes.masked_fill(~counted.unsqueeze(1), 0.0)
        return (
            loss,
            slopes @ w if for_input else None,
            slopes.t() @ x if for_weight else None,
            slopes.sum(0) if for_bias else None,
        )


def scaled_gradient(
    gradient: Tensor, factor: Tensor, dtype: torch.dtype, last: bool = False
) -> Tensor:
    del last
    return (gradient * factor).to(dtype)
