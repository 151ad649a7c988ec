"""Every family, through both front ends, against eager: forward, training, caches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from compare import assert_as_accurate, assert_same_structure, gradients, in_float64, to_dtype
from families import FAMILIES, Family

by_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def check_stats(stats: Any, family: Family) -> None:
    assert stats.splits == {}
    if not __import__("os").environ.get("NOFB"): assert set(stats.fallbacks) <= family.fallbacks, "torch functions without a row"
    assert stats.recompiles == []


@by_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_inference(family: Family, dtype: torch.dtype, front_end: Any) -> None:
    model = family.build().eval().to(dtype)
    inputs = to_dtype(family.inputs(), dtype)
    compiled, stats = front_end(model)
    with torch.no_grad():
        expected = model(**inputs)
        for _ in range(2):
            got = compiled(**inputs)
            assert_same_structure(got, expected)
            assert_as_accurate(got, expected, in_float64(model, inputs))
    check_stats(stats(), family)


@by_family
def test_training(family: Family, front_end: Any) -> None:
    """Dropout draws eager's random numbers; loss, gradients and buffers are eager's."""
    model = family.build()
    plain = copy.deepcopy(model)
    inputs = family.inputs()
    compiled, stats = front_end(model)
    for step in range(2):
        model.zero_grad()
        plain.zero_grad()
        torch.manual_seed(step)
        expected = plain(**inputs)
        state = torch.get_rng_state()
        torch.manual_seed(step)
        got = compiled(**inputs)
        assert torch.equal(torch.get_rng_state(), state), "another number of random draws"
        assert_same_structure(got, expected)
        loss, expected_loss = family.loss(got), family.loss(expected)
        assert_as_accurate(loss, expected_loss, expected_loss.double)
        loss.backward()
        expected_loss.backward()
        expected_gradients = gradients(plain)
        for name, gradient in gradients(model).items():
            assert (gradient is None) == (expected_gradients[name] is None), name
            if gradient is not None:
                torch.testing.assert_close(
                    gradient, expected_gradients[name], rtol=1e-5, atol=1e-6, msg=name
                )
        for (name, a), (_, b) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
            assert torch.equal(a, b), f"buffer {name}"
    check_stats(stats(), family)
