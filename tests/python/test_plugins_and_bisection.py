"""Kernels of shared libraries; fuel, and the search for what broke a result."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import _core, extend
from fulmen.extend import (
    OperatorExecutor,
    get_executor,
    python_callable,
)
from own_executors import Recorded, claims_of, close, gradients, make, make_own

ROOT = Path(__file__).parents[2]


def build(folder: Path, source: str) -> Path:
    (folder / "plugin.cpp").write_text(source)
    library = folder / "libplugin.so"
    command = ["g++", "-O1", "-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{extend.include_dir()}", str(folder / "plugin.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def test_a_plugin(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "silu_plugin.cpp").read_text()
    assert len(source.splitlines()) <= 60
    plugin = fulmen.load_plugin(build(tmp_path, source))
    assert plugin.name == "my_silu" and get_executor("my_silu") is plugin
    x = torch.randn(50, 700, requires_grad=True)
    fn = lambda x: F.silu(x) * 2 + F.silu(x.t()).t() + F.silu(x.double()).float()  # noqa: E731
    f = fulmen.jit(fn, executors=["my_silu"])
    ours, theirs = gradients(f, x), gradients(fn, x)
    close(ours[0], theirs[0])
    close(ours[1][0], theirs[1][0])
    why = (("my_silu", "it takes contiguous float32 on the CPU"),)
    assert claims_of(f, "silu") == [("my_silu", ()), ("aten", why), ("aten", why)]
    for shape in ((0, 3), (), (1, 1)):
        with torch.no_grad():
            y = torch.randn(shape)
            close(fulmen.jit(lambda x: F.silu(x), executors=[plugin])(y), F.silu(y))


C_PLUGIN = """
#include "plugin.h"
static const char* run(const FulmenValue* args, size_t n, const FulmenTensor* results, size_t m,
                       const FulmenHost* host) {
  (void)n; (void)m; (void)host;
  if (args[1].kind == FULMEN_INTEGER) return "a number is too hard";
  float* out = (float*)results[0].data;
  for (int64_t i = 0; i < results[0].sizes[0]; ++i)
    out[i] = ((const float*)args[0].tensor.data)[i * args[0].tensor.strides[0]] + 100;
  return 0;
}
static const FulmenOperator operators[] = {{"add", 0, run}};
static const FulmenPlugin plugin = {VERSION, "adder", operators, 1};
const FulmenPlugin* fulmen_plugin(void) { return &plugin; }
"""


def test_arguments_and_errors_of_a_plugin(tmp_path: Path) -> None:
    library = build(tmp_path, C_PLUGIN.replace("VERSION", "FULMEN_PLUGIN_VERSION"))
    plugin = fulmen.load_plugin(library)
    x = torch.arange(6.0)[::2]
    f = fulmen.jit(lambda x, y: x + y, executors=[plugin])
    close(f(x, x), x + 100)
    g = fulmen.jit(lambda x: torch.sin(x + 1), executors=[plugin])
    with pytest.raises(RuntimeError, match=r"kernel for add\(\).*bisection.py.*too hard"):
        g(x)


def test_libraries_that_are_no_plugin(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be loaded"):
        fulmen.load_plugin(tmp_path / "none.so")
    with pytest.raises(ValueError, match="exports no function fulmen_plugin"):
        fulmen.load_plugin(build(tmp_path, "int x;"))
    (tmp_path / "old").mkdir()
    old = build(tmp_path / "old", C_PLUGIN.replace("VERSION", "FULMEN_PLUGIN_VERSION + 1"))
    with pytest.raises(ValueError, match="got version 2 of the plug-in interface; expected 1"):
        fulmen.load_plugin(old)


def test_fuel_counts_claims_and_rewrites() -> None:
    log: list[str] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        torch.cos(x)  # nobody reads it
        return torch.sin(x) + torch.sin(x + 1)

    counts = []
    for fuel in (0, 1, 2, 3, -1):
        _core.set_flag("fuel", str(fuel))
        try:
            f = fulmen.jit(fn, executors=[make("a", log)])
            log.clear()
            close(f(torch.ones(3)), fn(torch.ones(3)))
            names = [b.symbol.name for b in fulmen.last_traces(f)[-1].bound_symbols]
            counts.append((names.count("cos"), len(log)))
        finally:
            _core.set_flag("fuel", "-1")
    assert counts == [(1, 0), (0, 0), (0, 1), (0, 1), (0, 2)]


def make_wrong(size: int) -> OperatorExecutor:
    """cos is wrong for tensors of one size."""
    ex = OperatorExecutor("wrong")
    op = ex.register_operator(
        "cos", like=torch.cos, fn=lambda x: torch.cos(x) + 0.1 * (x.numel() == size)
    )
    ex.register_implementation(torch.cos, op)
    return ex


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_bisect_finds_a_wrong_executor(size: int, grad: bool) -> None:
    def fn(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Any:
        x = torch.cos(x) * 1
        y = torch.cos(y) * 2
        return x.sum() + y.sum() + torch.cos(z).sum()

    inputs = [torch.randn(n, requires_grad=grad) for n in (2, 3, 4)]
    f = fulmen.jit(fn, executors=[make_wrong(size)])
    culprit = fulmen.examine.bisect(f, *inputs)
    assert culprit is not None
    line = fn.__code__.co_firstlineno + size - 1
    assert culprit.rewrite.startswith("executor wrong: ")
    assert f"cos(…)  [test_plugins_and_bisection.py:{line} in fn]" in culprit.rewrite
    assert 1 <= culprit.number <= culprit.total and "Expected" in str(culprit)
    assert fulmen.examine.bisect(fulmen.jit(fn), *inputs) is None


def test_bisect_finds_a_wrong_gradient() -> None:
    f = fulmen.jit(lambda x: (torch.exp(x) * torch.sin(x)).sum(), executors=[make_own([])])
    culprit = fulmen.examine.bisect(f, torch.randn(3, requires_grad=True))
    assert culprit is not None and culprit.rewrite.startswith("gradient of executor own: ")
    assert culprit.difference.startswith("gradients 0: ")


def test_bisect_finds_a_wrong_region_of_the_backward() -> None:
    class Wrong(Recorded):
        def fuse(self, region: fulmen.Trace) -> Callable[..., Any]:
            run = python_callable(region)
            if "cos" not in [b.symbol.name for b in region.bound_symbols]:
                return run
            return lambda *args: run(*args) + 1

    ex = Wrong(names=("sin", "cos", "mul"))
    f = fulmen.jit(lambda x: torch.sin(x) * 2 * x, executors=[ex])
    culprit = fulmen.examine.bisect(f, torch.randn(3, requires_grad=True))
    assert culprit is not None and culprit.rewrite.startswith("partition: ")


def test_bisect_with_state_and_random_numbers() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert fulmen.examine.bisect(fulmen.jit(model), torch.randn(8, 4)) is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_bisect_of_what_differs_without_any_rewrite() -> None:
    f = fulmen.jit(lambda x: x + 1)
    culprit = fulmen.examine.bisect(f, torch.ones(2), differs=lambda a, b: "always")
    assert culprit is not None and culprit.rewrite == "" and culprit.number == 0
    assert "not a rewrite" in str(culprit)
    with pytest.raises(fulmen.UserError, match=r"expected what fulmen\.jit returned"):
        fulmen.examine.bisect(torch.sin, torch.ones(2))
