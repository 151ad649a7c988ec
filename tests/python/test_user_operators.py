"""Operators and gradients of users' executors, and what happens where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import symbols
from fulmen.extend import (
    OperatorExecutor,
    StatefulExecutor,
    get_grad,
    put_grad,
    python_callable,
)
from own_executors import claims_of, close, gradients, make_own

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ex() -> OperatorExecutor:
    return OperatorExecutor("mine")


def test_an_operator_runs_traced_and_eagerly(ex: OperatorExecutor) -> None:
    op = ex.register_operator(
        "pair",
        meta=lambda x, *, k=2: (torch.empty_like(x), x.new_empty((x.shape[0], k))),
        fn=lambda x, *, k=2: (x + 1, x.sum(1, keepdim=True).repeat(1, k)),
    )
    x = torch.randn(3, 4)
    expected = op(x, k=3)

    def fn(x: Any) -> Any:
        a, b = op(x, k=3)
        return a * 2, b

    for given in ([], [ex]):
        f = fulmen.jit(fn, executors=given, fullgraph=True)
        a, b = f(x)
        close(a, expected[0] * 2)
        close(b, expected[1])
        assert claims_of(f, "mine.pair")[0][0] == ("mine" if given else "python")
    trace = fulmen.trace(fn)(x)
    assert "fulmen.symbols.mine.pair(x, k=3)" in str(trace)
    assert fulmen.parse_trace(str(trace)).equals(trace)
    close(python_callable(trace)(x)[0], expected[0] * 2)
    close(symbols.mine.pair(x)[1], op(x)[1])  # type: ignore[attr-defined]


def test_an_operator_can_be_defined_again(ex: OperatorExecutor) -> None:
    ex.register_operator("one", like=torch.sin, fn=lambda x: x + 1)
    op = ex.register_operator("one", like=torch.sin, fn=lambda x: x + 2)
    assert float(fulmen.jit(lambda x: op(x))(torch.zeros(()))) == 2


def test_replaces(ex: OperatorExecutor) -> None:
    def table(x: torch.Tensor, k: int = 2) -> torch.Tensor:
        raise AssertionError("it is not looked into")

    op = ex.register_operator(
        "scaled", meta=lambda x, k=2: torch.empty_like(x), fn=lambda x, k=2: x * k, replaces=table
    )

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return table(x + self.w.detach(), k=3) + table(x)

    f = fulmen.jit(Model(), executors=[ex], fullgraph=True)
    close(f(torch.ones(3)), torch.full((3,), 8.0))
    assert fulmen.stats(f).kernels["mine"] == 2
    assert op is ex.operators["scaled"]


def test_operators_and_writes_in_place(ex: OperatorExecutor) -> None:
    op = ex.register_operator("plus", like=lambda x: x + 1, fn=lambda x: x + 1)

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = op(x)
        x.mul_(2)
        z = op(x)
        y.add_(z)
        return y

    x, other = torch.ones(3), torch.ones(3)
    f = fulmen.jit(fn, executors=[ex])
    close(f(x), fn(other))
    close(x, other)
    assert fulmen.stats(f).splits == {}


def test_random_operators_are_never_merged(ex: OperatorExecutor) -> None:
    tags = {"draw": ("random",), "pure": ("pure",)}
    for name, given in tags.items():
        ex.register_operator(
            name, meta=lambda x: torch.empty_like(x), fn=lambda x: torch.rand_like(x), tags=given
        )
    f = fulmen.jit(lambda x: (ex.operators["draw"](x), ex.operators["draw"](x)))
    a, b = f(torch.ones(8))
    assert not torch.equal(a, b)
    f = fulmen.jit(lambda x: (ex.operators["pure"](x) + 0, ex.operators["pure"](x) + 1))
    a, b = f(torch.ones(8))
    close(a + 1, b)


def test_state_belongs_to_one_use() -> None:
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            self.n += 1
            return x + self.n

    ex = StatefulExecutor("counting")
    count = ex.register_stateful_operator("count", Counter, meta=lambda x: torch.empty_like(x))
    for given in ([], [ex]):
        f = fulmen.jit(lambda x: (count(x), count(x)), executors=given)
        zero = torch.zeros(())
        assert [[int(v) for v in f(zero)] for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
        again = fulmen.jit(lambda x: count(x), executors=given)
        assert int(again(zero)) == 1


def bad(ex: OperatorExecutor, fn: Callable[..., Any], **rules: Any) -> Callable[..., Any]:
    rules = rules or {"meta": lambda x: torch.empty_like(x)}
    return ex.register_operator("bad", fn=fn, **rules)


def write(x: torch.Tensor) -> torch.Tensor:
    x.add_(1)
    return x + 1


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (lambda x: x[:2], r"returned f32\[2\]; its metadata says f32\[3\]"),
        (lambda x: x.double(), r"returned f64\[3\]; its"),
        (lambda x: (x, x), "returned tuple; its metadata says one tensor"),
        (lambda x: None, "returned NoneType"),
        (write, "wrote to an argument"),
    ],
)
def test_an_implementation_keeps_to_its_metadata(ex: OperatorExecutor, fn: Any, text: str) -> None:
    op = bad(ex, fn)
    with pytest.raises(fulmen.UserError, match=text) as e:
        fulmen.jit(lambda x: op(x) * 2)(torch.ones(3))
    assert e.value.id == "executor-kernel"
    assert "mine.bad()" in str(e.value) and "test_user_operators.py" in str(e.value)


def test_results_get_the_layout_and_storage_that_metadata_says(ex: OperatorExecutor) -> None:
    op = bad(ex, lambda x: x)
    x = torch.ones(3)
    y = fulmen.jit(lambda x: op(x))(x)
    y.add_(1)
    assert torch.equal(x, torch.ones(3))
    op = bad(ex, lambda x: (x.t() + 1).t())
    x = torch.randn(3, 4)
    y = fulmen.jit(lambda x: op(x).view(12))(x)
    close(y, (x + 1).view(12))


def test_an_implementation_that_raises(ex: OperatorExecutor) -> None:
    def boom(x: Any) -> Any:
        raise ValueError("boom")

    op = bad(ex, boom, like=torch.sin)
    ex.register_implementation(torch.cos, op)
    for fn in (lambda x: op(x) + 1, lambda x: torch.cos(x) + 1):
        for x in (torch.ones(2), torch.ones(2, requires_grad=True)):
            # Eager PyTorch, which knows no executors, would hide the second.
            with pytest.raises(
                ValueError, match=r"mine.bad\(\) raised ValueError: boom .*py:"
            ) as e:
                fulmen.jit(fn, executors=[ex])(x)
            assert isinstance(e.value.__cause__, ValueError)


def test_a_meta_function_that_raises(ex: OperatorExecutor) -> None:
    def meta(x: Any) -> Any:
        raise KeyError("shape")

    op = bad(ex, lambda x: x + 1, meta=meta)
    with pytest.raises(
        fulmen.UserError, match=r"meta function of mine.bad\(\) raised KeyError"
    ) as e:
        fulmen.jit(lambda x: op(x))(torch.ones(2))
    assert e.value.id == "operator-meta" and "test_user_operators.py" in str(e.value)


def test_an_implementation_has_the_gradient_of_its_symbol(ex: OperatorExecutor) -> None:
    log: list[str] = []

    def run(a: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
        log.append("run")
        with torch.no_grad():
            return F.gelu(a, approximate=approximate)

    ex.register_implementation(F.gelu, ex.register_operator("gelu", like=F.gelu, fn=run))
    x = torch.randn(3, 4, requires_grad=True)
    for fn in (lambda x: F.gelu(x), lambda x: F.gelu(x * 2, approximate="tanh") @ x.t()):
        log.clear()
        ours, theirs = gradients(fulmen.jit(fn, executors=[ex]), x), gradients(fn, x)
        close(ours[0], theirs[0])
        close(ours[1][0], theirs[1][0])
        assert log == ["run"]


def test_an_operator_has_the_gradient_of_what_it_is_like(ex: OperatorExecutor) -> None:
    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.detach().numpy() * w.detach().numpy()).sin()

    op = ex.register_operator("f", like=lambda x, w: torch.sin(x * w), fn=run)
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    for given in ([], [ex]):
        f = fulmen.jit(lambda x, w: op(x, w), executors=given)
        ours, theirs = gradients(f, x, w), gradients(lambda x, w: torch.sin(x * w), x, w)
        close(ours[0], theirs[0])
        for a, b in zip(ours[1], theirs[1], strict=True):
            close(a, b)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.sin(x),
        lambda x: torch.sin(x * 1) * 1,
        lambda x: torch.sin(x.t()).t(),
        lambda x: torch.sin(torch.sin(x) + 1).sum(0),
    ],
)
def test_an_own_gradient(fn: Any) -> None:
    log: list[str] = []
    ex = make_own(log)
    x = torch.randn(3, 4, requires_grad=True, dtype=torch.float64)

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * 2 * torch.cos(*ctx.saved_tensors)

    f = fulmen.jit(fn, executors=[ex])
    ours = gradients(f, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "sin", Twice.apply)
        theirs = gradients(fn, x)
    close(ours[0], theirs[0])
    close(ours[1][0], theirs[1][0])
    assert log.count("forward") == log.count("backward") > 0
    log.clear()
    with torch.no_grad():
        close(f(x), fn(x))
    assert set(log) == {"forward"}


def test_an_own_gradient_of_several_results(ex: OperatorExecutor) -> None:
    def gradient(x: Any, dim: Any = None) -> Any:
        values, indices = torch.ops.aten.sort(x) if dim is None else x.sort(dim)
        put_grad(x, torch.zeros_like(x).scatter(-1, indices, get_grad(values) * 3))
        return values, indices

    ex.register_implementation(
        "sort",
        execution_transform=lambda x, dim=-1, descending=False: torch.sort(x * 1, dim, descending),
        grad_transform=lambda x, dim=-1, descending=False: gradient(x, dim),
    )
    x = torch.randn(3, 4, requires_grad=True)
    f = fulmen.jit(lambda x: torch.sort(x)[0] * 1, executors=[ex])
    ours, theirs = gradients(f, x), gradients(lambda x: torch.sort(x)[0], x)
    close(ours[0], theirs[0])
    close(ours[1][0], 3 * theirs[1][0])


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (lambda x: get_grad(torch.sin(x)) * 1, "depends on a gradient"),
        (lambda x: get_grad(torch.sin(x)), "returned an argument"),
        (lambda x: (put_grad(torch.cos(x), x), torch.sin(x))[1], "no argument"),
    ],
)
def test_a_wrong_grad_transform(ex: OperatorExecutor, transform: Any, text: str) -> None:
    ex.register_implementation(
        torch.sin, execution_transform=lambda x: torch.sin(x) * 1, grad_transform=transform
    )
    with pytest.raises(fulmen.UserError, match=text):
        fulmen.jit(lambda x: torch.sin(x) * 2, executors=[ex])(torch.ones(3, requires_grad=True))
    with pytest.raises(fulmen.UserError, match="outside of a grad_transform"):
        get_grad(torch.ones(3))


def test_an_operator_without_a_gradient_says_so(ex: OperatorExecutor) -> None:
    numpy = ex.register_operator(
        "np", meta=lambda x: torch.empty_like(x), fn=lambda x: torch.tensor(x.tolist())
    )
    torch_made = ex.register_operator("th", meta=lambda x: torch.empty_like(x), fn=lambda x: x * 3)
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(fulmen.UserError, match="without a gradient"):
        fulmen.jit(lambda x: numpy(x) * 2)(x)
    fulmen.jit(lambda x: numpy(x.detach()) * 2)(x)
    # PyTorch's autograd sees through it.
    close(torch.autograd.grad(fulmen.jit(lambda x: torch_made(x) * 2)(x).sum(), x)[0], x * 0 + 6)


def test_second_gradients_of_what_pytorch_can_not_see(ex: OperatorExecutor) -> None:
    run = ex.register_operator(
        "np", like=torch.sin, fn=lambda x: torch.tensor(torch.sin(x).tolist())
    )
    x = torch.randn(3, requires_grad=True)
    y = fulmen.jit(lambda x: run(x) * 2)(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    close(g, 2 * torch.cos(x.detach()))
    with pytest.raises(RuntimeError, match="without a gradient"):
        torch.autograd.grad(fulmen.jit(lambda x: run(x) * 2)(x).sum(), x, create_graph=True)
