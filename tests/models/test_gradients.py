"""Gradients of whole models against those of float64: their error is no larger than eager's."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fulmen
from compare import gradients, to_dtype
from families import FAMILIES, Family

NAMES = ("gpt2", "bert", "llama", "litgpt-pythia", "resnet", "convnext")
CHOSEN = [next(f for f in FAMILIES if f.name == name) for name in NAMES]
MODES: dict[str, Callable[[], Any]] = {
    "fp32": contextlib.nullcontext,
    "bf16": lambda: torch.autocast("cpu", torch.bfloat16),
}


def deterministic(family: Family) -> nn.Module:
    """The model without dropout, its normalizations by the batch's own statistics."""
    model = family.build().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return model


def step_of(family: Family, model: Any, module: nn.Module, mode: str) -> Callable[..., Any]:
    def step(**inputs: Any) -> torch.Tensor:
        module.zero_grad()
        with MODES[mode]():
            loss = family.loss(model(**inputs))
        loss.backward()
        return loss.detach()

    return step


def strides(t: torch.Tensor) -> list[int]:
    """Those that say where an element is."""
    return [stride for stride, size in zip(t.stride(), t.shape, strict=True) if size != 1]


@pytest.mark.parametrize("form", ["module", "whole step"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", CHOSEN, ids=str)
def test_gradients_are_as_good_as_eagers(family: Family, mode: str, form: str) -> None:
    model = deterministic(family)
    plain, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    inputs = family.inputs()
    family.loss(exact(**to_dtype(inputs, torch.float64))).backward()
    reference = gradients(exact)
    if form == "module":
        jitted = fulmen.jit(model)
        step = step_of(family, jitted, model, mode)
    else:
        step = jitted = fulmen.jit(step_of(family, model, model, mode))
    eager = step_of(family, plain, plain, mode)
    for _ in range(2):  # gradients are there at the second call
        torch.testing.assert_close(step(**inputs), eager(**inputs), rtol=0, atol=0)
    assert not fulmen.stats(jitted).splits
    ours, theirs = 0.0, 0.0
    own, expected = gradients(model), gradients(plain)
    for name, r in reference.items():
        a, b = own[name], expected[name]
        assert (a is None) == (b is None) == (r is None), name
        if a is None or b is None or r is None:
            continue
        assert (a.dtype, strides(a)) == (b.dtype, strides(b)), name
        ours += (a.double() - r).square().sum().item()
        theirs += (b.double() - r).square().sum().item()
    assert math.sqrt(theirs) > 0, "the reference is no other computation"
    assert math.sqrt(ours) <= 1.1 * math.sqrt(theirs)


@pytest.mark.parametrize("family", CHOSEN, ids=str)
def test_generated_kernels_gradients_are_as_good_as_eagers(family: Family) -> None:
    """Over several sets of weights: one alone says little about errors of this size."""
    problem = fulmen.executors.llvm_problem()
    assert not problem, problem
    ratios = []
    for seed in range(6):
        model = deterministic(family)
        torch.manual_seed(seed)
        with torch.no_grad():
            for p in model.parameters():
                if p.ndim > 1:
                    p.copy_(torch.randn_like(p) * p.std())
        plain, exact = copy.deepcopy(model), copy.deepcopy(model).double()
        inputs = family.inputs()
        family.loss(exact(**to_dtype(inputs, torch.float64))).backward()
        reference = gradients(exact)
        step = fulmen.jit(step_of(family, model, model, "fp32"), executors=["fusion", "aten"])
        step(**inputs)
        step_of(family, plain, plain, "fp32")(**inputs)
        assert not fulmen.stats(step).splits
        errors = [
            sum(
                (gradient.double() - r).square().sum().item()
                for gradient, r in zip(gradients(m).values(), reference.values(), strict=True)
                if gradient is not None and r is not None
            )
            for m in (model, plain)
        ]
        ratios.append(math.sqrt(errors[0] / errors[1]))
    assert sum(ratios) / len(ratios) <= 1.1, ratios
