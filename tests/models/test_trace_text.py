"""Every stage of a model is text that reads back as the same trace, and runs in PyTorch."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import fulmen
from compare import leaves
from families import FAMILIES, Family
from fulmen import _core
from fulmen.tracer import Tracer

NAMES = ["gpt2", "llama", "mixtral", "t5", "whisper", "resnet", "convnext", "litgpt-gemma2"]
by_family = pytest.mark.parametrize("family", [f for f in FAMILIES if f.name in NAMES], ids=str)


@pytest.fixture
def tracers(monkeypatch: pytest.MonkeyPatch) -> list[Tracer]:
    """The tracers that fulmen.jit makes; each knows the tensors that became inputs."""
    made: list[Tracer] = []

    def make() -> Tracer:
        made.append(Tracer())
        return made[-1]

    monkeypatch.setattr(sys.modules["fulmen.jit"], "Tracer", make)
    return made


def check_round_trip(trace: fulmen.Trace) -> None:
    text = str(trace)
    parsed = fulmen.parse_trace(text, trace.constants)
    assert parsed.equals(trace, names=True)
    assert parsed.hash() == trace.hash()
    assert str(parsed) == text
    assert _core.verify_problem(trace) == ""
    assert _core.verify_problem(parsed) == ""


def run_text(trace: fulmen.Trace, inputs: Sequence[Any]) -> Any:
    """What the printed program gives in plain PyTorch."""
    scope = dict(trace.constants)
    exec(str(trace), scope)
    return scope[trace.name](*inputs)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [v for v in leaves(tree) if isinstance(v, torch.Tensor)]


class Phases(fulmen.Transform):
    """Keeps the three traces of the program."""

    def transform_traces_pre_prologue(
        self, prologue: fulmen.Trace, computation: fulmen.Trace, epilogue: fulmen.Trace
    ) -> tuple[fulmen.Trace, fulmen.Trace, fulmen.Trace]:
        self.traces = (prologue, computation, epilogue)
        return self.traces


@by_family
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_stages_of_a_model(family: Family, training: bool, tracers: list[Tracer]) -> None:
    model = family.build().train(training)
    plain = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    phases = Phases()
    jitted = fulmen.jit(model, transforms=[phases])
    with torch.no_grad():
        torch.manual_seed(0)
        jitted(**family.inputs())
        model.load_state_dict(before)
        inputs = tracers[-1].recorder.lifted
        torch.manual_seed(0)
        expected = tensors(plain(**family.inputs()))
        names = {id(t): name for name, t in model.state_dict(keep_vars=True).items()}
        after = plain.state_dict()

        def check(run: Callable[[Sequence[Any]], Any]) -> None:
            mine = copy.deepcopy(inputs)
            torch.manual_seed(0)
            got = tensors(run(mine))
            for value in expected:
                assert any(v.shape == value.shape and torch.equal(v, value) for v in got)
            for original, copied in zip(inputs, mine, strict=True):
                if id(original) in names:
                    assert torch.equal(copied, after[names[id(original)]])

        stages = fulmen.last_traces(jitted)
        assert len(stages) > 2
        for stage in stages:
            check_round_trip(stage)
            check(lambda mine, stage=stage: run_text(stage, mine))

        prologue, computation, epilogue = phases.traces
        for trace in phases.traces:
            check_round_trip(trace)
        check(
            lambda mine: run_text(
                epilogue, [*run_text(prologue, mine), *run_text(computation, mine)]
            )
        )


@by_family
def test_stages_behind_torch_compile(family: Family) -> None:
    compiler = fulmen.dynamo.FulmenCompiler()
    with torch.no_grad():
        torch.compile(family.build(), backend=compiler)(**family.inputs())
    stages = compiler.last_traces()
    assert len(stages) > 1
    for stage in stages:
        check_round_trip(stage)
