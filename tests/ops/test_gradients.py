"""Gradients of the first samples of every entry of PyTorch's operator database equal autograd's.

The known differences are a strict list, as in test_opdb.py. What no rule covers is differentiated
by PyTorch itself, and counted; the whole database: tools/opdb_report.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import exactness
import gradients
from gradient_samples import GRADIENT_SAMPLES
from known_gradients import KNOWN, reason_of_gradient
from opdb import op_db

SAMPLES_OF_AN_ENTRY = 2
WORKERS = 4


def run_shard(shard: int) -> list[tuple[str, gradients.GradientResult | str]]:
    return list(
        gradients.run_in_worker(list(range(shard, len(op_db), WORKERS)), SAMPLES_OF_AN_ENTRY)
    )


def test_gradients() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = [r for shard in pool.map(run_shard, range(WORKERS)) for r in shard]
    crashed = [f"{name}: {r}" for name, r in results if isinstance(r, str)]
    assert not crashed, "these entries ended the process:\n" + "\n".join(crashed)
    checked = [
        (name, r) for name, r in results if isinstance(r, gradients.GradientResult) and not r.skip
    ]
    assert len(checked) > 1500, "the database was not run"
    failed = [(name, r) for name, r in checked if not r.passed and r.way != "opaque"]
    unexplained = [
        f"{name} {r.check} sample {r.sample} by {', '.join(r.ways)}: {r.reason}"
        for name, r in failed
        if reason_of_gradient(name, r) is None
    ]
    assert not unexplained, "these differ from eager:\n" + "\n".join(unexplained)
    stale = [
        f"{entry}: {known.why}"
        for known in KNOWN
        if known.always and not exactness.with_kernels()
        for entry in known.entries.split()
        if not any(known.explains(name, r) for name, r in failed if name == entry)
    ]
    assert not stale, "these no longer differ; take them off the list:\n" + "\n".join(stale)
    regions = sum(r.regions for _, r in checked)
    assert bool(regions) == exactness.with_kernels(), f"{regions} regions"


@pytest.mark.parametrize(
    ("name", "fn", "args"), GRADIENT_SAMPLES, ids=[name for name, *_ in GRADIENT_SAMPLES]
)
def test_own_gradient(name: str, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    result = gradients.GradientResult("gradient", name, 0)
    gradients.compare(result, fn, args, {})
    assert not result.skip and result.passed, result.skip or result.reason
    bits = result.bits or exactness.with_kernels()
    assert bits and result.strides, "the gradients differ from autograd's in bits or strides"
