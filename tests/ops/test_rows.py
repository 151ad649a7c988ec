"""Every row: its names are PyTorch's, and the calls that only own samples make equal eager."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import opdb
from backward_samples import BACKWARD_SAMPLES
from own_samples import SAMPLES

from fulmen import _core

# Names that other PyTorch versions have.
ABSENT: set[str] = set()


def test_torch_names_resolve() -> None:
    unknown = []
    for symbol in _core.symbols():
        for name in symbol.torch_names:
            try:
                _core.resolve_torch_name(name)
            except (AttributeError, ImportError):
                unknown.append(name)
    assert sorted(set(unknown) - ABSENT) == []


@pytest.mark.parametrize(("name", "fn", "args"), SAMPLES, ids=[name for name, *_ in SAMPLES])
def test_own_sample(name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result = opdb.Result("forward", str(torch.float32), 0)
    opdb.compare(result, name, fn, args, {})
    assert not result.skip and result.passed, result.skip or result.reason
    assert not result.opaque, "a row takes the call"


DECOMPOSED = [*BACKWARD_SAMPLES, *(sample for sample in SAMPLES if "_backward" in sample[0])]


@pytest.mark.parametrize(("name", "fn", "args"), DECOMPOSED, ids=[name for name, *_ in DECOMPOSED])
def test_own_decomposition(name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result = opdb.Result("decomposed", name, 0)
    opdb.compare_decomposed(result, fn, args, {})
    assert result.skip == "nothing to decompose" or result.passed, result.reason
