"""Comparison of a compiled model's results with eager's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree


def to_dtype(tree: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map(
        lambda v: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v, tree
    )


def leaves(value: Any) -> list[Any]:
    """Tensors and plain values of a result, in order; caches and other objects by their fields."""
    found: list[Any] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor) or not hasattr(leaf, "__dict__"):
            found.append(leaf)
        elif hasattr(leaf, "__dict__"):
            found += [v for name in sorted(vars(leaf)) for v in leaves(vars(leaf)[name])]
    return found


def assert_same_structure(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if hasattr(expected, "keys"):
        assert list(got.keys()) == list(expected.keys())
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert type(getattr(got, field.name)) is type(getattr(expected, field.name)), field.name
    mine, theirs = leaves(got), leaves(expected)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        if not isinstance(b, torch.Tensor):
            if isinstance(b, (bool, int, float, str, type(None), torch.dtype, torch.device)):
                assert a == b
            continue
        assert isinstance(a, torch.Tensor)
        assert (a.dtype, a.shape, a.device) == (b.dtype, b.shape, b.device)
        assert a.stride() == b.stride()
        assert a.requires_grad == b.requires_grad
        assert (a.grad_fn is None) == (b.grad_fn is None)


def assert_as_accurate(
    got: Any, expected: Any, reference: Callable[[], Any], what: str = "result"
) -> None:
    """`got` is as close to the float64 `reference` as eager's `expected`; equal bits need none."""
    mine = [v for v in leaves(got) if isinstance(v, torch.Tensor)]
    theirs = [v for v in leaves(expected) if isinstance(v, torch.Tensor)]
    assert len(mine) == len(theirs)
    if all(torch.equal(a, b) or _both_nan_alike(a, b) for a, b in zip(mine, theirs, strict=True)):
        return
    exact = [v for v in leaves(reference()) if isinstance(v, torch.Tensor)]
    for i, (a, b, r) in enumerate(zip(mine, theirs, exact, strict=True)):
        if not r.is_floating_point():
            assert torch.equal(a, b), f"{what} {i}"
            continue
        error, allowed = (a.double() - r).abs().max(), (b.double() - r).abs().max()
        scale = r.abs().max().clamp(min=1e-30)
        slack = 2 * torch.finfo(b.dtype).eps * scale
        assert error <= 1.5 * allowed + slack, f"{what} {i}: off by {error}, eager by {allowed}"


def _both_nan_alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.is_floating_point()
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
    )


def in_float64(model: torch.nn.Module, inputs: dict[str, Any]) -> Callable[[], Any]:
    """Runs a copy of the model in float64; the copy is made only if called."""

    def run() -> Any:
        return copy.deepcopy(model).double()(**to_dtype(inputs, torch.float64))

    return run


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters()}
