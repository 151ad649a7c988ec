"""Elementwise gradients at special values (zeros of both signs, ties, infinities, NaN) equal
autograd's bit for bit, in the dtypes that round differently. (With generated kernels as
exactness.py has it.)
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import exactness
import gradients

import fulmen
from fulmen import _core

VALUES = [-torch.inf, -2.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, torch.inf, torch.nan]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def _rows(tensors: int) -> list[Any]:
    """Elementwise rows of this many tensors and nothing else that is required; backward functions
    are not among them, whose own gradients are second ones.
    """
    found = []
    for symbol in _core.symbols():
        if not {"pure", "pointwise"} <= set(symbol.tags) or symbol.name.endswith("_backward"):
            continue
        signature = re.search(r"\((.*)\) ->", symbol.schema)
        assert signature
        required = [p for p in signature[1].split(", ") if "=" not in p and p != "*"]
        kinds = [p.split(" ")[0] for p in required]
        if len(kinds) == tensors and all(k in ("Tensor", "Tensor|Scalar") for k in kinds):
            found.append(symbol)
    return found


def _problem(fn: Callable[..., Any], *args: torch.Tensor) -> str:
    """What is wrong with the gradients, or an empty string."""
    result = gradients.GradientResult("gradient", str(args[0].dtype), 0)
    gradients.compare(result, fn, args, {})
    if result.skip or result.reason.startswith("no rule"):
        return ""
    if not result.passed:
        return result.reason
    return "" if result.bits or exactness.with_kernels() else "bits differ"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tensors", [1, 2])
def test_special_values(tensors: int, dtype: torch.dtype) -> None:
    # In whole vectors: some of eager's kernels treat the elements that are left otherwise.
    grid = torch.tensor(list(itertools.product(VALUES, repeat=tensors)), dtype=dtype).repeat(64, 1)
    rows = _rows(tensors)
    assert len(rows) > 30
    wrong = {}
    for symbol in rows:
        args = tuple(column.clone().requires_grad_() for column in grid.unbind(-1))
        problem = _problem(_core.resolve_torch_name(symbol.torch_names[0]), *args)
        if problem:
            wrong[symbol.name] = problem
    assert not wrong


NAN, INF = torch.nan, torch.inf
# Rows with ties, zeros, infinities and NaN.
MATRIX = [
    [1.0, 3.0, 3.0, -2.0],
    [0.0, 2.0, -1.0, 4.0],
    [0.0, 0.0, 5.0, -0.0],
    [-INF, 1.0, 2.0, -INF],
    [-INF, -INF, -INF, -INF],
    [NAN, 1.0, NAN, 2.0],
    [2.0, 2.0, 2.0, 2.0],
    [0.0, INF, 0.0, 1.0],
]
ALONG: dict[str, Callable[..., Any]] = {
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin(1, keepdim=True),
    "aminmax": lambda x: tuple(x.aminmax(dim=1)),
    "max": lambda x: x.max(1).values,
    "min": lambda x: x.min(1, keepdim=True).values,
    "median": lambda x: x.median(1).values,
    "nanmedian": lambda x: x.nanmedian(1).values,
    "mode": lambda x: x.mode(1).values,
    "kthvalue": lambda x: x.kthvalue(2, 1).values,
    "topk": lambda x: x.topk(2, 1).values,
    "sort": lambda x: x.sort(1, stable=True).values,
    "cummax": lambda x: x.cummax(1).values,
    "cummin": lambda x: x.cummin(1).values,
    "cumprod": lambda x: x.cumprod(1),
    "cumsum": lambda x: x.cumsum(1),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "logsumexp": lambda x: x.logsumexp(1),
    "nansum": lambda x: x.nansum(1),
    "nanmean": lambda x: x.nanmean(1),
    "prod": lambda x: x.prod(1),
    "std": lambda x: x.std(1),
    "std_mean": lambda x: torch.std_mean(x, 1),
    "var": lambda x: x.var(1, unbiased=False),
    "var_mean": lambda x: torch.var_mean(x, 1),
    **{
        f"norm {p}": lambda x, p=p: torch.linalg.vector_norm(x, p, 1)
        for p in (0, 0.5, 1, 1.5, 2, 3, INF, -INF)
    },
}
WHOLE: dict[str, Callable[..., Any]] = {
    "max": torch.max,
    "min": torch.min,
    "median": torch.median,
    "nanmedian": torch.nanmedian,
    "amax": torch.amax,
    "prod": torch.prod,
    "std": torch.std,
    "var": torch.var,
    "norm": torch.norm,
}


@pytest.mark.parametrize("name", ALONG)
def test_special_rows(name: str) -> None:
    x = torch.tensor(MATRIX, dtype=torch.float64, requires_grad=True)
    assert not _problem(ALONG[name], x)


@pytest.mark.parametrize("row", range(len(MATRIX)))
@pytest.mark.parametrize("name", WHOLE)
def test_special_vectors(name: str, row: int) -> None:
    x = torch.tensor(MATRIX[row], dtype=torch.float64, requires_grad=True)
    assert not _problem(WHOLE[name], x)


@pytest.mark.parametrize("name", ["max_pool1d", "avg_pool1d", "max_pool2d", "avg_pool3d"])
def test_an_empty_stride_of_a_pool_is_none(name: str) -> None:
    pool = getattr(torch.nn.functional, name)
    gradients = []
    for f in (pool, fulmen.jit(pool)):
        x = torch.arange(2 * 3 * 6.0 ** int(name[-2])).reshape(2, 3, *[6] * int(name[-2]))
        x.requires_grad_()
        f(x, 2, ()).square().sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions_of_composite_losses(reduction: str) -> None:
    x, y, z = (torch.arange(12.0).reshape(3, 4).sin() + i for i in range(3))

    def losses(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            torch.nn.functional.triplet_margin_loss(x, y, z, reduction=reduction),
            torch.triplet_margin_loss(x, y, z),
            torch.nn.functional.poisson_nll_loss(x, y.abs(), full=True, reduction=reduction),
        )

    torch.testing.assert_close(fulmen.jit(losses)(x), losses(x))
