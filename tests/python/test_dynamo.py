"""FulmenCompiler as a backend of torch.compile."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest
import torch

import fulmen


def installed() -> bool:
    found = importlib.metadata.entry_points(group="torch_dynamo_backends", name="fulmen")
    return len(found) > 0


@pytest.mark.skipif(not installed(), reason="Fulmen is on the path, but not installed")
def test_backend_by_name() -> None:
    assert "fulmen" in torch._dynamo.list_backends()
    fn = torch.compile(lambda x: x.relu() + 1, backend="fulmen")
    x = torch.randn(3)
    assert torch.equal(fn(x), x.relu() + 1)


def test_recompiles_are_counted_with_reasons() -> None:
    compiler = fulmen.dynamo.FulmenCompiler()
    fn = torch.compile(lambda x: x * 2, backend=compiler, dynamic=False)
    for size in (3, 4, 3, 5, 4):
        x = torch.randn(size)
        assert torch.equal(fn(x), x * 2)
    stats = compiler.stats()
    assert (stats.cache_misses, stats.cache_hits, stats.calls) == (3, 2, 5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_dtypes(dtype: torch.dtype) -> None:
    jitted = fulmen.jit(lambda x: x + x)
    for value in (torch.ones(3), torch.ones(3).to(dtype)):
        got = jitted(value)
        assert got.dtype == (value + value).dtype and torch.equal(got, value + value)
    assert fulmen.stats(jitted).cache_misses == 2


def test_integers_that_change() -> None:
    jitted = fulmen.jit(lambda x, n: x.view(n, -1) * n)
    x = torch.arange(12.0)
    for n in (1, 2, 3, 4, 6, 2, 3):
        assert torch.equal(jitted(x, n), x.view(n, -1) * n)
    stats = fulmen.stats(jitted)
    assert (stats.cache_misses, stats.cache_hits) == (5, 2)


def test_more_shapes_than_dynamos_limit() -> None:
    jitted = fulmen.jit(lambda x: x + 1)
    for n in range(1, 40):
        assert torch.equal(jitted(torch.ones(n)), torch.ones(n) + 1)
    assert fulmen.stats(jitted).cache_misses == 39


@pytest.mark.parametrize("dynamic", [True, None])
def test_dynamic_shapes(dynamic: bool | None) -> None:
    compiler = fulmen.dynamo.FulmenCompiler()

    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        z = x.reshape(x.shape[0] * 2, -1)[: y.shape[0]]
        return z.sum(0, keepdim=True) / x.shape[0] + y.mean(), torch.zeros(x.shape[0]), x.shape[1]

    compiled = torch.compile(fn, backend=compiler, dynamic=dynamic)
    for rows, width in ((2, 4), (3, 4), (5, 6), (3, 4), (7, 8)):
        x, y = torch.randn(rows, width), torch.randn(rows)
        got, expected = compiled(x, y), fn(x, y)
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
        assert got[2] == expected[2]


def test_dynamic_training() -> None:
    net = torch.nn.Linear(4, 4)
    compiled = torch.compile(net, backend=fulmen.dynamo.FulmenCompiler(), dynamic=True)
    for n in (2, 5, 3):
        x = torch.randn(n, 4)
        net.zero_grad()
        net(x).square().sum().backward()
        expected = net.weight.grad.clone()
        net.zero_grad()
        compiled(x).square().sum().backward()
        torch.testing.assert_close(net.weight.grad, expected)


def test_compiler_collects_all_graphs() -> None:
    compiler = fulmen.dynamo.FulmenCompiler()
    one = torch.compile(lambda x: x + 1, backend=compiler)
    two = torch.compile(lambda x: x - 1, backend=compiler)
    one(torch.ones(2))
    assert len(compiler.last_traces()) >= 2
    two(torch.ones(2))
    assert compiler.stats().cache_misses == 2
    names = [b.symbol.name for b in compiler.last_traces()[0].bound_symbols]
    assert names == ["sub"]


def test_compile_fx_graph() -> None:
    graph = torch.fx.symbolic_trace(lambda x, y: (x + y).relu())
    x = torch.randn(3)
    compiled = fulmen.dynamo.compile_fx_graph(graph, [x, x])
    assert compiled.dispatch.counts == (0, 0, 1)
    assert torch.equal(compiled(x, -2 * x), (x - 2 * x).relu())
