"""Python for what PyTorch does in ways that can't be followed. The interpreter follows these."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import tracer

# They differentiate what they call with PyTorch's autograd.
DIFFERENTIATING: tuple[types.FunctionType, ...] = tuple(
    getattr(torch.autograd.functional, name)
    for name in ("vjp", "jvp", "jacobian", "hessian", "hvp", "vhp")
)


def on_tape(function: types.FunctionType) -> Callable[..., Any]:
    """A function of DIFFERENTIATING, in a program that is traced: see Note [Levels]."""
    # Another object than `function`, for which this is called.
    body = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    body.__kwdefaults__ = function.__kwdefaults__

    def followed(*args: Any, **kwargs: Any) -> Any:
        tracer.enter_tape()
        result: Any = None
        try:
            result = body(*args, **kwargs)
        finally:
            result = tracer.leave_tape(result)
        return result

    return followed


def associative_scan(
    combine_fn: Callable[[Any, Any], Any],
    xs: Any,
    dim: int,
    reverse: bool = False,
    combine_mode: str = "pointwise",
) -> Any:
    """torch._higher_order_ops.associative_scan, one step after the other.

    Args:
        combine_fn: (a, b) → the structure of both; elementwise, as "pointwise" demands.
        xs: tensors, in any structure, of one size along `dim`.
        dim: what is scanned over.
        reverse: from the last to the first.
        combine_mode: "pointwise" or "generic"; both are the same here.
    """
    del combine_mode
    leaves, structure = pytree.tree_flatten(xs)
    size = leaves[0].shape[dim]
    steps = list(range(size))[:: -1 if reverse else 1]
    carry: Any = None
    results: list[list[Any]] = []
    for step in steps:
        current = [leaf.select(dim, step) for leaf in leaves]
        if carry is not None:
            combined = combine_fn(
                pytree.tree_unflatten(carry, structure), pytree.tree_unflatten(current, structure)
            )
            current = pytree.tree_flatten(combined)[0]
        carry = current
        results.append(current)
    if reverse:
        results = results[::-1]
    stacked = [torch.stack([r[i] for r in results], dim) for i in range(len(leaves))]
    return pytree.tree_unflatten(stacked, structure)
