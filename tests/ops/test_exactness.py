"""How results of generated kernels are judged: what rounding explains passes, nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from exactness import difference

X = torch.randn(50, generator=torch.Generator().manual_seed(0)) + 3


def judge(got: torch.Tensor, fn, *args: torch.Tensor) -> str:
    return difference(got, fn(*args), lambda given: fn(*given), args)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_units_in_the_last_place(dtype: torch.dtype) -> None:
    x, eps = X.to(dtype), torch.finfo(dtype).eps
    assert not judge(x.exp() * (1 + eps), torch.exp, x)
    assert "more than rounding" in judge(x.exp() * (1 + 30 * eps), torch.exp, x)
    one_off = x.exp()
    one_off[7] *= 1 + 30 * eps
    assert judge(one_off, torch.exp, x).startswith("1 values")


def test_terms_that_cancel() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * 1000 - y * 1000

    assert not judge(fn(X, X + 1e-5) + 2e-4, fn, X, X + 1e-5)
    assert judge(fn(X, X + 1e-5) + 2e-2, fn, X, X + 1e-5)
    # Nothing cancels in a product: small values are as exact as large ones.
    small = torch.tensor([1.0, 1e-6])
    wrong = small * 3 + torch.tensor([0.0, 1e-10])
    assert judge(wrong, lambda x: x * 3, small)


def test_what_is_not_rounded() -> None:
    assert judge((X * 0 + 1).int(), lambda x: x.int(), X) == "values differ that are not rounded"
    nan = X.exp()
    nan[3] = torch.nan
    assert "NaN" in judge(nan, torch.exp, X)
    assert "infinities" in judge(nan.nan_to_num(torch.inf), torch.exp, X)


def test_sums_in_float64() -> None:
    x = X.double()
    assert not judge(x.flip(0).sum(), torch.sum, x)
    assert judge(x.sum() + 1e-9, torch.sum, x)
