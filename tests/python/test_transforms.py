"""Transforms and fulmen.rewrite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import fulmen
from fulmen import _core

X = torch.linspace(-2, 2, 6).reshape(2, 3)


def names(trace: fulmen.Trace) -> list[str]:
    return [b.symbol.name for b in trace.bound_symbols]


def relu_to_gelu(bsym: fulmen.BoundSymbol) -> Any:
    return F.gelu(bsym.args[0]) if bsym.symbol.name == "relu" else fulmen.KEEP


class Rewrite(fulmen.Transform):
    """Applies a visitor to the computation."""

    def __init__(self, visit: Any) -> None:
        self.visit = visit

    def transform_traces_pre_prologue(self, prologue: Any, computation: Any, epilogue: Any) -> Any:
        return prologue, fulmen.rewrite(computation, self.visit, "Test"), epilogue


def test_replace_one_operation() -> None:
    trace = fulmen.trace(lambda x: torch.relu(x) * 2)(X)
    changed = fulmen.rewrite(trace, relu_to_gelu, "Relu to gelu")
    assert names(changed) == ["gelu", "mul"]
    assert names(trace) == ["relu", "mul"], "the original stays as it was"
    assert changed.provenance == "Relu to gelu"


def test_insert_an_operation() -> None:
    def visit(bsym: fulmen.BoundSymbol) -> Any:
        if bsym.symbol.name == "mul":
            return torch.sigmoid(bsym.args[0] * bsym.args[1]) + 1
        return fulmen.KEEP

    trace = fulmen.rewrite(fulmen.trace(lambda x: (x * 3).relu())(X), visit)
    assert names(trace) == ["mul", "sigmoid", "add", "relu"]


def test_keep_all() -> None:
    trace = fulmen.trace(lambda x: (x.relu(), x.sum()))(X)
    assert names(fulmen.rewrite(trace, lambda bsym: fulmen.KEEP)) == names(trace)


def test_remove_an_operation() -> None:
    trace = fulmen.trace(lambda x: torch.relu(x + 1))(X)
    visit = lambda b: b.args[0] if b.symbol.name == "relu" else fulmen.KEEP  # noqa: E731
    assert names(fulmen.rewrite(trace, visit)) == ["add"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda x: (x, x), "another structure"),
        (lambda x: x.sum(), "expected the same shape, dtype and device"),
        (lambda x: x.double(), "expected the same shape, dtype and device"),
        (lambda x: None, "another structure"),
    ],
)
def test_replacements_keep_the_metadata(value: Any, text: str) -> None:
    trace = fulmen.trace(torch.relu)(X)
    with pytest.raises(ValueError, match=text) as info:
        fulmen.rewrite(trace, lambda bsym: value(bsym.args[0]))
    assert info.value.id == "bad-replacement"


def test_transform_of_a_jitted_function() -> None:
    jitted = fulmen.jit(lambda x: torch.relu(x) * 2, transforms=[Rewrite(relu_to_gelu)])
    assert torch.equal(jitted(X), F.gelu(X) * 2)
    assert any("gelu" in names(t) for t in fulmen.last_traces(jitted))


def test_transform_applies_to_training() -> None:
    jitted = fulmen.jit(lambda x: torch.relu(x).sum(), transforms=[Rewrite(relu_to_gelu)])
    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    jitted(x).backward()
    F.gelu(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_transforms_run_in_order() -> None:
    def to_tanh(bsym: fulmen.BoundSymbol) -> Any:
        return torch.tanh(bsym.args[0]) if bsym.symbol.name == "gelu" else fulmen.KEEP

    jitted = fulmen.jit(torch.relu, transforms=[Rewrite(relu_to_gelu), Rewrite(to_tanh)])
    assert torch.equal(jitted(X), torch.tanh(X))


def test_transform_module() -> None:
    class Double(fulmen.Transform):
        def transform_module(self, module: torch.nn.Module) -> None:
            with torch.no_grad():
                for p in module.parameters():
                    p.mul_(2)

    net = torch.nn.Linear(3, 2, bias=False)
    expected = net(X) * 2
    torch.testing.assert_close(fulmen.jit(net, transforms=[Double()])(X), expected)


def test_transform_post_optimization() -> None:
    seen: list[Any] = []

    class Look(fulmen.Transform):
        def transform_trace_post_optimization(self, trace: Any) -> Any:
            seen.append([(b.symbol.name, b.executor) for b in trace.bound_symbols])
            return trace

    jitted = fulmen.jit(lambda x: torch.relu(x) + 1, transforms=[Look()])
    assert torch.equal(jitted(X), torch.relu(X) + 1)
    assert len(seen) == 1
    assert seen[0] == [
        ("relu", "aten"),
        ("add", "aten"),
    ]


@pytest.mark.parametrize("result", [None, 3, "computation"])
@pytest.mark.parametrize("stage", ["pre", "post"])
def test_not_a_trace(stage: str, result: Any) -> None:
    class Broken(fulmen.Transform):
        def transform_traces_pre_prologue(self, prologue: Any, trace: Any, epilogue: Any) -> Any:
            return (prologue, result if stage == "pre" else trace, epilogue)

        def transform_trace_post_optimization(self, trace: Any) -> Any:
            return result if stage == "post" else trace

    with pytest.raises(ValueError, match="transform Broken returned a broken trace") as info:
        fulmen.jit(torch.relu, transforms=[Broken()])(X)
    assert info.value.id == "broken-transform"


def test_no_tuple_of_three() -> None:
    class Broken(fulmen.Transform):
        def transform_traces_pre_prologue(self, prologue: Any, trace: Any, epilogue: Any) -> Any:
            return trace

    with pytest.raises(ValueError, match="no tuple of three traces"):
        fulmen.jit(torch.relu, transforms=[Broken()])(X)


@pytest.mark.skipif(not hasattr(_core, "verify_problem"), reason="the verifier is not bound")
def test_a_broken_trace_is_refused() -> None:
    class Broken(fulmen.Transform):
        """Drops the first operation, whose result the second needs."""

        def transform_traces_pre_prologue(self, prologue: Any, trace: Any, epilogue: Any) -> Any:
            recorder = _core.Recorder.for_trace(trace)
            recorder.enter()
            try:
                recorder.append(trace.bound_symbols[-1])
                return prologue, recorder.finish_rewrite(trace, "Broken"), epilogue
            finally:
                recorder.exit()

    with pytest.raises(ValueError, match="transform Broken returned a broken trace") as info:
        fulmen.jit(lambda x: torch.relu(x) + 1, transforms=[Broken()])(X)
    assert info.value.id == "broken-transform"
    assert "is used before it is defined" in str(info.value)


def test_an_error_inside_a_transform_is_the_users() -> None:
    class Fails(fulmen.Transform):
        def transform_trace_post_optimization(self, trace: Any) -> Any:
            raise KeyError("mine")

    net = torch.nn.Linear(3, 3)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(KeyError, match="mine"):
        fulmen.jit(net, transforms=[Fails()])(X)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
