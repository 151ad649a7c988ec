"""Every entry of PyTorch's operator database that kernels can run: all of its operations in
regions, for every dtype, as close to float64 as eager PyTorch is."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch.testing._internal.common_methods_invocations import op_db

sys.path.insert(0, str(Path(__file__).parent))

from fused import compare

from fulmen.errors import DataDependentError, Unsupported, UserError

DTYPES = (
    torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool,
    torch.float16, torch.int32,
)  # fmt: skip
SHARDS = 4
# Entries whose results are random or uninitialized, so that two runs differ.
UNPREDICTABLE = {
    "bernoulli", "cauchy", "empty", "empty_like", "empty_permuted", "empty_strided", "exponential",
    "geometric", "log_normal", "multinomial", "new_empty", "new_empty_strided", "normal",
    "nn.functional.alpha_dropout", "nn.functional.dropout", "nn.functional.dropout2d",
    "nn.functional.dropout3d", "nn.functional.feature_alpha_dropout",
    "nn.functional.fractional_max_pool2d",
    "nn.functional.fractional_max_pool3d", "nn.functional.multi_head_attention_forward",
    "nn.functional.rrelu", "nn.functional.scaled_dot_product_attention", "pca_lowrank", "rand_like",
    "randint", "randint_like", "randn", "randn_like", "svd_lowrank", "uniform",
    "torch.ops.aten._safe_softmax.default",
}  # fmt: skip


def run_entry(op, samples: int) -> tuple[int, list[str]]:
    """(samples that ran with regions, how results differ)"""
    ran, problems = 0, []
    for dtype in DTYPES:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        try:
            count = samples if dtype in DTYPES[:2] else 1
            inputs = list(itertools.islice(op.sample_inputs("cpu", dtype), count))
        except Exception:
            continue  # the entry has no samples for a dtype that it says it supports
        for number, sample in enumerate(inputs):
            args = (sample.input, *sample.args)
            try:
                op.op(*args, **sample.kwargs)
            except Exception:
                continue  # eager refuses the sample
            if any(isinstance(a, torch.Tensor) and a.layout != torch.strided for a in args):
                continue
            try:
                fused, problem = compare(op.op, args, sample.kwargs)
            except (UserError, Unsupported, DataDependentError):
                break  # not traced; tests/ops has what that means
            if not fused.regions:
                break
            ran += 1
            if problem:
                problems.append(f"{op.name} {dtype} sample {number}: {problem}")
        if not ran and dtype is DTYPES[0]:
            break  # nothing of it is fused in float32: not in other dtypes either
    return ran, problems


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_entries(shard: int) -> None:
    fused, ran, problems = set(), 0, []
    for op in op_db[shard::SHARDS]:
        if op.name in UNPREDICTABLE:
            continue
        count, found = run_entry(op, samples=2)
        ran += count
        problems += found
        if count:
            fused.add(op.name)
    assert not problems, "\n".join(problems)
    assert len(fused) >= 35 and ran > 200, "the database was not run"


NAMES = (
    "add sub mul div floor_divide remainder fmod pow exp log tanh sigmoid erf sin where clamp "
    "maximum eq bitwise_left_shift bitwise_and sum amax prod mean softmax nn.functional.layer_norm "
    "nn.functional.gelu nn.functional.silu lgamma nextafter"
).split()


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
def test_entries_with_other_instructions(isa: str) -> None:
    seen, problems = 0, []
    for op in op_db:
        if op.name in NAMES:
            count, found = run_entry(op, samples=3)
            seen += bool(count)
            problems += found
    assert not problems, "\n".join(problems)
    assert seen >= len(NAMES) - 2
