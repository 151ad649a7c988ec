"""fulmen.stats: exact counts."""

from __future__ import annotations

import pytest
import torch

import fulmen

X = torch.arange(6.0).reshape(2, 3)


def test_before_the_first_call() -> None:
    stats = fulmen.stats(fulmen.jit(torch.relu))
    assert stats == fulmen.stats(fulmen.jit(torch.tanh))
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (0, 0, 0)
    assert stats.instructions == 0 and stats.kernels == {} and stats.recompiles == []


def test_calls_hits_and_misses() -> None:
    jitted = fulmen.jit(lambda x: torch.relu(x) + 1)
    for _ in range(4):
        jitted(X)
    stats = fulmen.stats(jitted)
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (4, 3, 1)
    assert stats.instructions == 2
    assert stats.kernels == {"aten": 2}
    assert stats.fallbacks == {} and stats.splits == {} and stats.recompiles == []
    assert {"acquisition", "claim", "program"} <= set(stats.compile_seconds)
    assert all(seconds >= 0 for seconds in stats.compile_seconds.values())


@pytest.mark.parametrize(
    "other", [torch.ones(4, 3), X.double(), X.t().contiguous().t(), X.clone().requires_grad_()]
)
def test_what_needs_a_new_program(other: torch.Tensor) -> None:
    jitted = fulmen.jit(torch.relu)
    jitted(X)
    for _ in range(2):
        jitted(other)
        jitted(X)
    stats = fulmen.stats(jitted)
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (5, 3, 2)


def test_grad_mode_needs_a_new_program() -> None:
    jitted = fulmen.jit(torch.relu)
    x = X.clone().requires_grad_()
    jitted(x)
    with torch.no_grad():
        assert not jitted(x).requires_grad
    jitted(x)
    assert fulmen.stats(jitted).cache_misses == 2


def test_new_values_need_none() -> None:
    net = torch.nn.Linear(3, 3)
    jitted = fulmen.jit(net)
    for _ in range(3):
        jitted(torch.randn(2, 3))
        with torch.no_grad():
            net.weight.add_(1)
    assert fulmen.stats(jitted).cache_misses == 1


def test_fallbacks_are_reported() -> None:
    jitted = fulmen.jit(lambda x: torch.special.zeta(x + 2, x + 1).relu())
    torch.testing.assert_close(jitted(X), torch.special.zeta(X + 2, X + 1).relu())
    stats = fulmen.stats(jitted)
    if not fulmen._core.has_row(torch.special.zeta):
        assert list(stats.fallbacks) == ["torch.special.zeta"]
        assert stats.kernels["python"] == 1
    assert stats.splits == {}


def test_a_failed_compilation_counts_nothing() -> None:
    class Fails(fulmen.Transform):
        fail = True

        def transform_trace_post_optimization(self, trace: fulmen.Trace) -> fulmen.Trace:
            if self.fail:
                raise RuntimeError("mine")
            return trace

    transform = Fails()
    jitted = fulmen.jit(torch.relu, transforms=[transform])
    with pytest.raises(RuntimeError, match="mine"):
        jitted(X)
    transform.fail = False
    assert torch.equal(jitted(X), torch.relu(X))
    assert fulmen.stats(jitted).cache_misses == 1


def test_stats_of_something_else() -> None:
    with pytest.raises(TypeError) as info:
        fulmen.stats(torch.relu)
    assert info.value.id == "not-jitted"
    with pytest.raises(TypeError) as info:
        fulmen.jit(3)
    assert info.value.id == "jit-argument"


def test_last_traces_are_the_stages() -> None:
    jitted = fulmen.jit(lambda x: torch.relu(x) + 1)
    assert fulmen.last_traces(jitted) == []
    jitted(X)
    traces = fulmen.last_traces(jitted)
    assert traces[0].provenance == "Acquisition"
    claimed = [b for b in traces[-1].bound_symbols if b.symbol != _core_del()]
    assert claimed and all(b.executor for b in claimed)


def _core_del() -> fulmen.Symbol | None:
    return fulmen._core.find_symbol("del_") or fulmen._core.find_symbol("del_last_used")
