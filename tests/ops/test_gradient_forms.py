"""Gradients of views, indexing, padding, scatters and conversions in forms that PyTorch's operator
database does not try: mixed dtypes, negative and repeated indices, masks, lists, empty parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

import exactness
import gradients

_GENERATOR = torch.Generator().manual_seed(3)


def g(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A parameter."""
    return torch.randn(shape, generator=_GENERATOR, dtype=dtype).requires_grad_()


def n(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def m(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_GENERATOR) > 0


F64, BF16, C64 = torch.float64, torch.bfloat16, torch.complex64


def _put(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    y = x * 1
    y[index] = value
    return y


def _rotary(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


_WAYS = ("sum", "prod", "mean", "amax", "amin")


def _reduced_arguments() -> tuple[torch.Tensor, ...]:
    return g(3, 2), n(0, 1, 0, 1).view(2, 2), g(2, 2)


def _reduced(how: str, include_self: bool) -> Callable[..., torch.Tensor]:
    return lambda x, i, s: torch.scatter_reduce(x, 0, i, s, how, include_self=include_self)


# Each is (name, function, arguments): bits and dtypes of all gradients equal autograd's.
SAMPLES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("dtypes promote", lambda x, y: x * y + x / y, (g(2, 3), g(3, dtype=F64))),
    ("half and float", lambda x, y: torch.where(x > y, x, y), (g(3, dtype=BF16), g(2, 3))),
    ("0-d operand", lambda x, y: x * y - y, (g(2, 3), g())),
    ("real and complex", lambda x, y: x * y + y / x, (g(2, 3), g(2, 3, dtype=C64))),
    ("complex number", lambda x: torch.view_as_real(x * (1 + 2j)), (g(4),)),
    ("cat of dtypes", lambda x, y: torch.cat((x, y), 1), (g(2, 3), g(2, 1, dtype=F64))),
    ("cat with an empty vector", lambda x, y: torch.cat((x, y)), (g(0), g(2, 3))),
    ("to half and back", lambda x: x.to(BF16).float() * 2, (g(5),)),
    ("rotary embedding of pairs", _rotary, (g(2, 3, 8), g(3, 4))),
    ("slices with steps", lambda x: x[1::2, :-1] * x[:-1:2, 1:], (g(7, 4),)),
    ("slice beyond the end", lambda x: x[2:99], (g(4, 2),)),
    ("select from the end", lambda x: x[-1] + x.select(1, -2), (g(3, 3),)),
    ("None and ellipsis", lambda x: x[None, ..., 1, None], (g(2, 3),)),
    ("index with repeats", lambda x: x[n(1, 1, 0)], (g(3, 2),)),
    ("index with negatives", lambda x: x[n(-1, 0), n(0, -2)], (g(3, 2),)),
    ("indices that are not adjacent", lambda x: x[n(0, 1), :, n(1, 0)], (g(2, 3, 2),)),
    ("index by a list", lambda x: x[:, [0, 2, 2]], (g(2, 3),)),
    ("assign at indices", lambda x, v: _put(x, n(0, 2), v), (g(3, 2), g(2, 2))),
    ("assign one value", lambda x, v: _put(x, (slice(None), n(1)), v), (g(3, 2), g())),
    ("assign at a mask", lambda x, k: _put(x, k, 0.0), (g(3, 2), m(3, 2))),
    ("index_put accumulates", lambda x, v: x.index_put((n(0, 0),), v, True), (g(3, 2), g(2, 2))),
    ("chunks of several sizes", lambda x: x.chunk(3, -1), (g(2, 7),)),
    ("tensor_split", lambda x: x.tensor_split((1, 4)), (g(6, 2),)),
    ("one of several chunks", lambda x: x.chunk(3)[1] * 2, (g(6, 2),)),
    ("unbind", lambda x: x.unbind(1)[0], (g(2, 3),)),
    ("stack of the same", lambda x: torch.stack((x, x * 2), -1), (g(2, 3),)),
    ("expand of several dimensions", lambda x: x.expand(4, 2, 3) * 2, (g(2, 1),)),
    ("repeat", lambda x: x.repeat(2, 1, 3), (g(2, 3),)),
    ("repeat none", lambda x: x.repeat(0, 2).sum() + x, (g(2, 3),)),
    ("repeat_interleave", lambda x: x.repeat_interleave(3, 1), (g(2, 3),)),
    ("roll of all", lambda x: x.roll(2), (g(2, 3),)),
    ("roll of two dimensions", lambda x: x.roll((1, -1), (0, 1)), (g(3, 4),)),
    ("unfold that overlaps", lambda x: x.unfold(1, 3, 2), (g(2, 7),)),
    ("movedim", lambda x: x.movedim((0, 2), (1, 0)), (g(2, 3, 4),)),
    ("meshgrid xy", lambda x, y: torch.meshgrid(x, y, indexing="xy"), (g(3), g(2))),
    ("as_strided", lambda x: x.as_strided((2, 2), (1, 2)), (g(3, 4),)),
    ("pad constant, cutting", lambda x: F.pad(x, (-1, 2, 1, -1), value=1.0), (g(3, 4),)),
    ("pad circular", lambda x: F.pad(x, (2, 1, 1, 0), "circular"), (g(1, 2, 3, 4),)),
    ("pad reflect", lambda x: F.pad(x, (2, 1), "reflect"), (g(2, 4),)),
    ("pad replicate", lambda x: F.pad(x, (2, 1, 0, 1, 1, 1), "replicate"), (g(1, 2, 2, 3, 4),)),
    ("gather with repeats", lambda x: x.gather(1, n(0, 0, 1).expand(2, 3)), (g(2, 3),)),
    ("take", lambda x: x.take(n(-1, 0, 0)), (g(2, 3),)),
    ("take_along_dim", lambda x: x.take_along_dim(n(-1, 1)[None], 1), (g(3, 3),)),
    ("masked_fill broadcast", lambda x, k: x.masked_fill(k, -torch.inf).exp(), (g(3), m(2, 3))),
    ("masked_scatter", torch.masked_scatter, (g(2, 3), m(2, 3), g(9))),
    ("index_copy", lambda x, s: x.index_copy(0, n(2, 0), s), (g(3, 2), g(2, 2))),
    ("index_fill by a tensor", lambda x, v: x.index_fill(0, n(1), v), (g(3, 1), g())),
    ("index_add scaled", lambda x, s: x.index_add(0, n(1, 1), s, alpha=2), (g(3, 2), g(2, 2))),
    *((f"scatter_reduce {how}", _reduced(how, True), _reduced_arguments()) for how in _WAYS),
    *((f"scatter_reduce {how} anew", _reduced(how, False), _reduced_arguments()) for how in _WAYS),
    ("vector @ matrix, reflected", lambda x, y: x.__rmatmul__(y), (g(4, 3), g(4))),
    ("float_power", lambda x, y: torch.float_power(x.abs(), y), (g(3), g(3))),
    ("pow of an integer base", lambda x: 2**x, (g(3),)),
    ("clamp by tensors", torch.clamp, (g(9), g(9), g(9))),
    ("mean in another dtype", lambda x: x.mean(0, dtype=F64), (g(3, 2),)),
    ("sum of half", lambda x: x.sum(1), (g(3, 5, dtype=BF16),)),
    ("norm of no dimension", lambda x: x.norm(), (g(3, 2),)),
    ("inverse", torch.linalg.inv, (g(3, 3, dtype=F64),)),
    ("real FFT and back", lambda x: torch.fft.irfft(torch.fft.rfft(x), 5), (g(2, 5),)),
]


@pytest.mark.parametrize(("name", "fn", "args"), SAMPLES, ids=[name for name, *_ in SAMPLES])
def test_gradient(name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result = gradients.GradientResult("gradient", name, 0)
    gradients.compare(result, fn, args, {})
    assert not result.skip and result.passed, result.skip or result.reason
    assert result.bits or exactness.with_kernels(), "the gradients differ from autograd's in bits"
    assert result.way != "opaque", "a row's own rule makes the gradient"
