"""The reference executor runs models as the text that their programs print as."""

from __future__ import annotations

import copy

import pytest
import torch

import fulmen
from compare import assert_as_accurate, assert_same_structure, leaves, to_dtype
from families import FAMILIES, Family

NAMES = ["gpt2", "llama", "t5", "resnet"]


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name in NAMES], ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_model_as_its_printed_program(family: Family, training: bool) -> None:
    model = family.build().train(training)
    plain, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    jitted = fulmen.jit(model, executors=["python"])
    torch.manual_seed(0)
    with torch.set_grad_enabled(training):
        got = jitted(**family.inputs())
        torch.manual_seed(0)
        expected = plain(**family.inputs())
    stats = fulmen.stats(jitted)
    assert stats.kernels == {"python": 1} and stats.splits == {}
    if not training:
        assert_same_structure(got, expected)
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        if isinstance(b, torch.Tensor):
            assert torch.equal(a, b)
    for (name, a), b in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    if not training:
        return
    family.loss(got).backward()
    family.loss(expected).backward()

    def reference() -> list[torch.Tensor]:
        torch.manual_seed(0)
        family.loss(exact(**to_dtype(family.inputs(), torch.float64))).backward()
        return [p.grad for p in exact.parameters() if p.grad is not None]

    mine = [p.grad for p in model.parameters() if p.grad is not None]
    theirs = [p.grad for p in plain.parameters() if p.grad is not None]
    assert_as_accurate(mine, theirs, reference, "gradients")
