"""Models in mixed precision: eager's bits under autocast, and gradients as good as eager's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compare import assert_same_structure, gradients, leaves, to_dtype
from families import FAMILIES, Family

CHOSEN = [f for f in FAMILIES if f.name in ("gpt2", "llama", "bert", "resnet", "t5", "vit")]


def assert_bits(got: Any, expected: Any) -> None:
    assert_same_structure(got, expected)
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        if isinstance(b, torch.Tensor):
            assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("family", CHOSEN, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_training(family: Family, dtype: torch.dtype, jit_front_end: Any) -> None:
    model = family.build()
    plain = copy.deepcopy(model)
    inputs = family.inputs()
    compiled, stats = jit_front_end(model)
    for step in range(2):
        results = []
        for run, module in ((plain, plain), (compiled, model)):
            module.zero_grad()
            torch.manual_seed(step)
            with torch.autocast("cpu", dtype):
                output = run(**inputs)
                loss = family.loss(output)
            loss.backward()
            results.append((output, loss, gradients(module)))
        (expected, expected_loss, expected_gradients), (got, loss, own_gradients) = results
        assert_bits(got, expected)
        assert_bits(loss, expected_loss)
        assert own_gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            own = own_gradients[name]
            assert (own is None) == (gradient is None), name
            assert own is None or own.dtype == gradient.dtype, name
    assert stats().splits == {} and stats().recompiles == []
    assert set(stats().fallbacks) <= family.fallbacks


@pytest.mark.parametrize("family", CHOSEN, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_gradients(family: Family, dtype: torch.dtype, jit_front_end: Any) -> None:
    """As close to those of float64 as eager's, which adds them in another order."""
    model = family.build().eval()
    inputs = family.inputs()
    exact = copy.deepcopy(model).double()
    family.loss(exact(**to_dtype(inputs, torch.float64))).backward()
    reference = gradients(exact)
    compiled, _ = jit_front_end(model)
    errors = []
    for run in (model, compiled):
        model.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = family.loss(run(**inputs))
        loss.backward()
        error = 0.0
        for name, gradient in gradients(model).items():
            r = reference[name]
            assert (gradient is None) == (r is None), name
            if gradient is not None and r is not None:
                error += (gradient.double() - r).square().sum().item()
        errors.append(error**0.5)
    assert errors[1] <= 1.1 * errors[0]


@pytest.mark.parametrize("family", CHOSEN, ids=str)
def test_inference(family: Family, jit_front_end: Any) -> None:
    model = family.build().eval()
    inputs = family.inputs()
    compiled, stats = jit_front_end(model)
    for _ in range(2):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            got, expected = compiled(**inputs), model(**inputs)
        assert_bits(got, expected)
        assert all(v.is_inference() for v in leaves(got) if isinstance(v, torch.Tensor))
    assert stats().splits == {} and set(stats().fallbacks) <= family.fallbacks
