"""Wrong uses of gradients, in modules, functions and whole steps, with the default executors: the
type of eager's error, and calls that come after are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fulmen

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
EXECUTORS = ["products", "fusion"]


def make_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 8), nn.Tanh())


class Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise ValueError("the user's backward")


class WrongShape(Raises):
    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad[:1, :3]


def _hook(grad: torch.Tensor) -> torch.Tensor:
    raise KeyError("the user's hook")


def _twice(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    y.sum().backward()
    y.sum().backward()


def _input_written(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    with torch.no_grad():
        x.add_(0)
    y.sum().backward()


def _weight_written(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    with torch.no_grad():
        m[3].weight.add_(0)
    y.sum().backward()


def _result_written(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    y.mul_(2).sum().backward()


def _shape(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    y.backward(torch.ones(3, 8))


def _no_gradient(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    y.backward()


def _hook_raises(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    handle = y.register_hook(_hook)
    try:
        y.sum().backward()
    finally:
        handle.remove()


def _raises(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    Raises.apply(y).sum().backward()


def _wrong_shape(m: nn.Module, y: torch.Tensor, x: torch.Tensor) -> None:
    WrongShape.apply(y).sum().backward()


WRONG: dict[str, tuple[Callable[..., None], type[Exception]]] = {
    "backward twice": (_twice, RuntimeError),
    "an input is written": (_input_written, RuntimeError),
    "a weight is written": (_weight_written, RuntimeError),
    "a result is written": (_result_written, RuntimeError),
    "a gradient of another shape": (_shape, RuntimeError),
    "no gradient for many elements": (_no_gradient, RuntimeError),
    "a hook raises": (_hook_raises, KeyError),
    "a backward raises": (_raises, ValueError),
    "a backward gives another shape": (_wrong_shape, RuntimeError),
}


def _gradients(m: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in m.parameters() if p.grad is not None]


def _assert_right(f: Callable[..., Any], m: nn.Module) -> None:
    """A call of f, which is m, and its backward, equal those of a model in eager."""
    eager = make_model()
    eager.load_state_dict(m.state_dict())
    m.zero_grad()
    f(X).square().sum().backward()
    eager(X).square().sum().backward()
    torch.testing.assert_close(_gradients(m), _gradients(eager))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("form", ["module", "function"])
def test_outside(name: str, form: str) -> None:
    wrong, error = WRONG[name]
    m = make_model()
    f = fulmen.jit(m if form == "module" else lambda x: m(x), executors=EXECUTORS)
    for _ in range(2):
        x = X.clone().requires_grad_()
        eager = make_model()
        with pytest.raises(error):
            wrong(eager, eager(x), x)
        x = X.clone().requires_grad_()
        with pytest.raises(error):
            wrong(m, f(x), x)
        _assert_right(f, m)


@pytest.mark.parametrize("name", WRONG)
def test_inside(name: str) -> None:
    """The same as a part of the program, in which an optimizer would follow."""
    wrong, error = WRONG[name]
    m = make_model()
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1)

    def step(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        wrong(m, m(x), x)
        optimizer.step()

    before = {k: v.clone() for k, v in m.state_dict().items()}
    fast = fulmen.jit(step, executors=EXECUTORS)
    for _ in range(2):
        with pytest.raises(error):
            fast(X.clone())
    for k, v in m.state_dict().items():
        assert torch.equal(v, before[k])
    _assert_right(fulmen.jit(m, executors=EXECUTORS), m)


def test_a_saved_value_written_inside() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        total = y.sum()
        y.mul_(2)
        return total

    x = X.clone().requires_grad_()
    result = fulmen.jit(f, executors=EXECUTORS)(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        fulmen.grad(f)(X)


def test_writes_that_spoil_nothing() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.mul_(w)  # eager saves a copy
        y.sigmoid_()  # and here the result
        z = y + 1
        z.add_(x)
        return z

    def grads(f: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        x, w = X.clone().requires_grad_(), X[0].clone().requires_grad_()
        f(x, w).square().sum().backward()
        return [x.grad, w.grad]  # type: ignore[list-item]

    fast = fulmen.jit(f, executors=EXECUTORS)
    torch.testing.assert_close(grads(fast), grads(f))
    assert not fulmen.stats(fast).notes


@pytest.mark.parametrize("inside", [False, True])
def test_requires_grad_changes(inside: bool) -> None:
    def run(compile: bool) -> list[Any]:
        m = make_model()

        def f(x: torch.Tensor, frozen: bool) -> torch.Tensor:
            if inside:
                m[0].weight.requires_grad_(not frozen)
            return m(x).square().mean()

        call = fulmen.jit(f, executors=EXECUTORS) if compile else f
        found = []
        for frozen in (False, True, False, True):
            if not inside:
                m[0].weight.requires_grad_(not frozen)
            m.zero_grad()
            call(X, frozen).backward()
            found.append([m[0].weight.requires_grad, *_gradients(m)])
        return found

    torch.testing.assert_close(run(True), run(False))


def test_requires_grad_of_what_the_program_makes() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x.detach().requires_grad_()
        return torch.autograd.grad(y.sin().sum(), y)[0]

    fast = fulmen.jit(f, executors=EXECUTORS)
    torch.testing.assert_close(fast(X), X.cos())
    assert not fulmen.stats(fast).splits
    computed = fulmen.jit(lambda x: (x * 2).requires_grad_(False))
    with pytest.raises(RuntimeError, match="leaf"):
        computed(X.clone().requires_grad_())
