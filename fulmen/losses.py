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
    kept = torch.promote_types(input.dtype, torch.float32)
    operands = [None if t is None else t.detach() for t in (input, weight, bias)]
    wanted = [
        t.requires_grad_()
        for t, asked in zip(operands, (for_input, for_weight, for_bias), strict=True)
        if t is not None and asked
    ]
    with torch.enable_grad():
        x, w, b = operands
        assert x is not None and w is not None
        loss = linear_cross_entropy(x, w, b, target, ignore_index, reduction, upcast)
    grads = iter(torch.autograd.grad(loss, wanted) if wanted else ())
    return loss.detach(), *(
        next(grads).to(kept).contiguous() if asked else None for asked in (for_input, for_weight, for_bias)
    )


def scaled_gradient(
    gradient: Tensor, factor: Tensor, dtype: torch.dtype, last: bool = False
) -> Tensor:
    del last
    return (gradient * factor).to(dtype)
