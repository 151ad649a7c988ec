"""Generated kernels touch nothing outside of their tensors: PyTorch's operator database with every
tensor of every kernel between pages that end the process when they are touched.

Run as a program it is a worker, as tests/ops/opdb.py is.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
sys.path.insert(0, str(Path(__file__).parent))

import exactness
import opdb
from fused import run_fused

from fulmen import _core
from fulmen.trace import trace_call

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
SAMPLES = 40
WITHOUT_REGIONS = 3  # samples after which an entry counts as one that kernels do not run
WORKERS = 2


def run_entry(op: Any, limit: int) -> Iterator[opdb.Result]:
    """How many regions each sample has that ran; what they compute is compared elsewhere."""
    for dtype in DTYPES:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        regions = 0
        samples = op.sample_inputs("cpu", dtype, requires_grad=False)
        for number in range(limit):
            result = opdb.Result("forward", str(dtype), number)
            try:
                sample = next(samples)
                args = (sample.input, *sample.args)
                trace, _, inputs = trace_call(op.op, args, sample.kwargs)
                program, result.regions = exactness.build_program(trace)
                dispatch = _core.Dispatch(lambda *a: None)
                dispatch.add(program, (None,) * len(inputs), ())
                if result.regions:
                    dispatch(*inputs)
            except StopIteration:
                break
            except Exception as e:
                result.skip = f"{type(e).__name__}: {e}"[:100]
            regions += result.regions
            yield result
            if number >= WITHOUT_REGIONS and not regions:
                break


@pytest.mark.parametrize("where", ["end", "start"])
def test_operator_database(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULMEN_GUARD", where)

    def run_shard(shard: int) -> list[tuple[str, opdb.Result | str]]:
        entries = list(range(shard, len(opdb.op_db), WORKERS))
        return list(opdb.run_in_worker(entries, SAMPLES, (), __file__))

    with ThreadPoolExecutor(WORKERS) as pool:
        results = [r for shard in pool.map(run_shard, range(WORKERS)) for r in shard]
    ended = [f"{name}: {r}" for name, r in results if isinstance(r, str)]
    assert not ended, "these entries ended the process:\n" + "\n".join(ended)
    ran = {name: 0 for name, _ in results}
    for name, r in results:
        ran[name] += r.regions if isinstance(r, opdb.Result) and not r.skip else 0
    fused = sum(bool(n) for n in ran.values())
    assert fused > 150 and sum(ran.values()) > 5000, f"{sum(ran.values())} regions of {fused}"


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("where", ["end", "start"])
def test_results_are_copied_back(where: str, isa: str) -> None:
    _core.set_flag("guard", where)
    try:
        for n, dtype in itertools.product((0, 1, 7, 37, 5000), DTYPES):
            x = torch.randn(3, n).to(dtype)
            fused = run_fused(lambda x: ((x.float() * 2).exp() + 1, x.float().softmax(0)), (x,))
            assert fused.regions
            torch.testing.assert_close(fused.outputs[0], (x.float() * 2).exp() + 1)
            torch.testing.assert_close(fused.outputs[1], x.float().softmax(0))
    finally:
        _core.set_flag("guard", "")


if __name__ == "__main__":
    opdb.serve(lambda op, limit, _: run_entry(op, limit))
