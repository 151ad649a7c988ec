"""What printed traces call where a program is joined to autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class _Region(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Any, backward: Any, *inputs: Any) -> tuple[Any, ...]:
        # PyTorch's own autograd tells which results have a gradient; its graph is then dropped.
        with torch.enable_grad():
            results, saved = forward(*(_detached(x, _requires_grad(x)) for x in inputs))
        asked = [_requires_grad(r) for r in results]
        for i, r in enumerate(results):
            asked[i] = asked[i] and not any(r is other for other in results[:i])
        results, saved = [_detached(r) for r in results], [_detached(s) for s in saved]
        others = [r for r, wanted in zip(results, asked, strict=True) if not wanted]
        ctx.mark_non_differentiable(*(r for r in others if isinstance(r, torch.Tensor)))
        ctx.asked = asked
        ctx.backward_program = backward
        ctx.numbers = [None if isinstance(s, torch.Tensor) else s for s in saved]
        ctx.save_for_backward(*(s if isinstance(s, torch.Tensor) else None for s in saved))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        saved = [n if t is None else t for t, n in zip(ctx.saved_tensors, ctx.numbers, strict=True)]
        grads = tuple(g for g, asked in zip(grads, ctx.asked, strict=True) if asked)
        return (None, None, *ctx.backward_program(*saved, *grads))


def random_state(device: torch.device) -> torch.Tensor:
    """A copy of the state of a device's generator."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def exchange_random_state(device: torch.device, state: torch.Tensor) -> torch.Tensor:
    """Sets the state of a device's generator, and returns the one that it had."""
    before = random_state(device)
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
    return before


def _requires_grad(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _detached(value: Any, requires_grad: bool = False) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().requires_grad_(requires_grad)


def differentiable(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    primal: Callable[..., Any],
    inputs: Sequence[Any],
) -> tuple[Any, ...]:
    """Runs `forward(*inputs)`, which returns (results, saved values), below autograd.

    The results are joined to autograd by one node, whose gradients are
    `backward(*saved values, *gradients of the results)`. `primal` is the forward in the form that
    was differentiated; running a printed trace does not need it.

    Returns:
        the results.
    """
    del primal
    return _Region.apply(forward, backward, *inputs)


def gradients(
    outputs: Sequence[torch.Tensor],
    seeds: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    retain_graph: bool = False,
    earlier: Sequence[Sequence[torch.Tensor]] | None = None,
    strides: Sequence[Sequence[int] | None] | None = None,
) -> tuple[torch.Tensor, ...]:
    """The gradients of `outputs` with respect to `inputs`, as torch.autograd.grad gives them.

    Args:
        earlier: for each input the values that it had before it was updated.
        strides: those that PyTorch gives the gradients anyway.
    """
    del strides
    if not earlier:
        return torch.autograd.grad(outputs, inputs, seeds, retain_graph=retain_graph)
    found = []
    for x, values in zip(inputs, earlier, strict=True):
        parts = torch.autograd.grad(
            outputs, (x, *values), seeds, retain_graph=True, allow_unused=True
        )
        found.append(sum(g for g in parts if g is not None))
    return tuple(found)


class _Freed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("Trying to backward through the graph a second time")


def backward_begins() -> None:
    """What follows is a part of a backward."""


def freed(value: torch.Tensor) -> torch.Tensor:
    """`value` as a tensor whose graph a backward has consumed."""
    with torch.enable_grad():
        return _Freed.apply(torch.empty((), requires_grad=True), value)


def check_leaves(leaves: Sequence[torch.Tensor]) -> None:
    """Raises RuntimeError if a hook of one of the leaves waits for its gradient."""
    for leaf in leaves:
        if leaf._backward_hooks or leaf._post_accumulate_grad_hooks:
            raise RuntimeError("a gradient hook")
