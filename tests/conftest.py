"""Every trace that a pass leaves is verified in the tests. With generated kernels
(FULMEN_EXECUTORS=fusion) results that eager's bits are asked of may differ by rounding."""

import os
from typing import Any

os.environ.setdefault("FULMEN_VERIFY", "1")  # before fulmen is imported

import torch

ROUNDINGS = 128  # of the largest value: a model's layers add up


def _as_rounded(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype or not b.is_floating_point() or not b.numel():
        return False
    largest = b.abs().nan_to_num(0, 0, 0).max().item()
    roundings = ROUNDINGS if b.dtype.itemsize > 2 else 4
    distance = roundings * torch.finfo(b.dtype).eps * largest
    return _allclose(a, b, rtol=0, atol=distance, equal_nan=True)


_equal, _allclose, _assert_close = torch.equal, torch.allclose, torch.testing.assert_close


def _equal_but_for_rounding(a: torch.Tensor, b: torch.Tensor) -> bool:
    return _equal(a, b) or _as_rounded(a, b)


def _allclose_but_for_rounding(a: torch.Tensor, b: torch.Tensor, *args: Any, **kwargs: Any) -> bool:
    return _allclose(a, b, *args, **kwargs) or (kwargs.get("rtol") == 0 and _as_rounded(a, b))


def _assert_close_but_for_rounding(actual: Any, expected: Any, **kwargs: Any) -> None:
    if kwargs.get("rtol") == 0 and kwargs.get("atol") == 0:
        kwargs |= {"rtol": 1e-5, "atol": 1e-6}
    _assert_close(actual, expected, **kwargs)


if "fusion" in os.environ.get("FULMEN_EXECUTORS", "").split(","):
    torch.equal = _equal_but_for_rounding
    torch.allclose = _allclose_but_for_rounding
    torch.testing.assert_close = _assert_close_but_for_rounding
