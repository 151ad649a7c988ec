"""What Fulmen can't compile runs in PyTorch, with the right result, and is reported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fulmen

LIBRARY = torch.library.Library("fulmen_tests", "DEF")
LIBRARY.define("twice(Tensor x) -> Tensor")
LIBRARY.impl("twice", lambda x: x * 2, "CPU")
torch.library.register_fake("fulmen_tests::twice", lambda x: torch.empty_like(x), lib=LIBRARY)
LIBRARY.define("no_fake(Tensor x) -> Tensor")
LIBRARY.impl("no_fake", lambda x: x + 3, "CPU")


@torch.library.custom_op("fulmen_tests::scaled", mutates_args=())
def scaled(x: torch.Tensor, factor: float) -> torch.Tensor:
    return x * factor


@scaled.register_fake
def _(x: torch.Tensor, factor: float) -> torch.Tensor:
    return torch.empty_like(x)


scaled.register_autograd(
    lambda ctx, grad: (grad * ctx.factor, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "factor", inputs[1]),
)


@torch.library.custom_op("fulmen_tests::increment_", mutates_args=("x",))
def increment_(x: torch.Tensor) -> None:
    x.add_(1)


def x() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3) - 2


def check(fn: Any, *args: Any) -> Any:
    """The stats of a jitted function that gave eager's result twice."""
    jitted = fulmen.jit(fn)
    for _ in range(2):
        expected = fn(*args)
        got = jitted(*args)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    return fulmen.stats(jitted)


def test_cond() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x.relu(),)) * 2

    check(fn, x())
    jitted = fulmen.jit(fn)
    for value in (torch.ones(3), -torch.ones(3)):
        assert torch.equal(jitted(value), fn(value))


def test_sparse() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        s = (x + 1).to_sparse()
        return torch.sparse.mm(s, x.t()).relu()

    check(fn, x())


def test_sparse_argument() -> None:
    s = x().to_sparse()
    check(lambda s, y: torch.sparse.mm(s, y) + 1, s, x().t().contiguous())


@pytest.mark.parametrize("name", ["twice", "no_fake"])
def test_library_operator(name: str) -> None:
    op = getattr(torch.ops.fulmen_tests, name)
    stats = check(lambda x: op(x + 1).relu(), x())
    reported = {**stats.splits, **stats.fallbacks}
    if name == "twice":
        assert any(name in key or name in reason for key, reason in reported.items())


def test_custom_operator_and_its_backward() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return scaled(x.sin(), 3.0).sum()

    stats = check(fn, x())
    assert "torch.ops.fulmen_tests.scaled.default" in stats.fallbacks
    gradients = []
    for f in (fn, fulmen.jit(fn)):
        value = x().requires_grad_()
        f(value).backward()
        gradients.append(value.grad)
    torch.testing.assert_close(*gradients)


def test_custom_operator_that_mutates() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        increment_(y)
        increment_(x)
        return y * 2

    plain, mine = x(), x()
    jitted = fulmen.jit(fn)
    for _ in range(2):
        assert torch.equal(jitted(mine), fn(plain))
        assert torch.equal(mine, plain)


def test_custom_autograd_function() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * 20

    def fn(x: torch.Tensor) -> torch.Tensor:
        return Twice.apply(x.sin()).sum()

    gradients = []
    for f in (fn, fulmen.jit(fn)):
        value = x().requires_grad_()
        f(value).backward()
        gradients.append(value.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))

    def fn(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(net, x, use_reentrant=reentrant).sin().sum()

    gradients = []
    for f in (fn, fulmen.jit(fn)):
        value = x().requires_grad_()
        torch.manual_seed(3)
        f(value).backward()
        gradients.append(value.grad)
    torch.testing.assert_close(*gradients)


def test_graph_break() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x.relu()
        torch._dynamo.graph_break()
        return y + 1

    stats = check(fn, x())
    assert stats.cache_misses == 1 and stats.splits == {}, "it says nothing to an interpreter"


def test_fullgraph_refuses_to_ask_for_a_value() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(fulmen.errors.DataDependentError, match=r"test_splits.py:\d+ in fn"):
        fulmen.jit(fn, fullgraph=True)(x())
    assert fulmen.stats(fulmen.jit(fn)).splits == {}


def test_complex_numbers() -> None:
    check(lambda z: (torch.fft.fft(z).abs() + z.real).conj() * z, x() + 1j)


def test_conjugated_argument() -> None:
    check(lambda z: z * 2, (x() + 1j).conj())


def test_tensor_subclass() -> None:
    class Tagged(torch.Tensor):
        pass

    value = x().as_subclass(Tagged)
    jitted = fulmen.jit(lambda x: x + 1)
    assert torch.equal(jitted(value).as_subclass(torch.Tensor), x() + 1)


def test_vmap_and_functional_gradients() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        per_row = torch.func.vmap(lambda r: (r * r).sum())(x)
        return torch.func.grad(lambda x: (x**2).sum())(x) + per_row[:, None]

    check(fn, x())


def test_operators_whose_result_size_depends_on_data() -> None:
    check(lambda x: x[x > 0].sum() + torch.nonzero(x).shape[0], x())
    check(lambda x: torch.unique(x.abs()) * 2, x())


def writes_then_asks(x: torch.Tensor) -> torch.Tensor:
    x.mul_(2)
    if x.sum() > 0:
        return x @ x[0, 0]
    return x


def draws_then_asks(x: torch.Tensor) -> torch.Tensor:
    y = torch.nn.functional.dropout(x, 0.5)
    if x.sum() > 0:
        return y @ x[0, 0]
    return y


def turns_then_asks(x: torch.Tensor) -> torch.Tensor:
    x.t_()
    return x * 2 if x.sum() > 0 else x


def gets_history_then_asks(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    x += w
    return x * 2 if x.sum() > 0 else x


def outcome(function: Any, *args: torch.Tensor) -> tuple[Any, ...]:
    torch.manual_seed(0)
    try:
        result = function(*args)
    except RuntimeError as e:
        result = e
    return result, torch.get_rng_state(), args


@pytest.mark.parametrize(
    "function", [writes_then_asks, draws_then_asks, turns_then_asks, gets_history_then_asks]
)
def test_what_ran_before_a_value_is_undone_before_eager_starts_anew(function: Any) -> None:
    more = [torch.ones(2, 3, requires_grad=True)] if function is gets_history_then_asks else []
    jitted = fulmen.jit(function)
    for _ in range(2):
        mine = outcome(jitted, torch.ones(2, 3), *more)
        wanted = outcome(function, torch.ones(2, 3), *more)
        assert isinstance(mine[0], type(wanted[0]))
        if isinstance(wanted[0], torch.Tensor):
            assert torch.equal(mine[0], wanted[0])
        assert torch.equal(mine[1], wanted[1])
        a, b = mine[2][0], wanted[2][0]
        assert torch.equal(a, b) and a.stride() == b.stride()
        assert a.requires_grad == b.requires_grad


def test_random_numbers_of_a_region_are_drawn_once() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.dropout(x * 2, 0.5) + torch.randn(2)
        if x.sum() > 0:
            raise ValueError("positive")
        return y

    jitted = fulmen.jit(fn)
    for _ in range(2):
        states = []
        for function in (jitted, fn):
            torch.manual_seed(0)
            with pytest.raises(ValueError, match="positive"):
                function(torch.ones(2, requires_grad=True))
            states.append(torch.get_rng_state())
        assert torch.equal(*states)


@pytest.mark.parametrize("name", ["type_as", "view_as", "reshape_as", "expand_as"])
def test_an_argument_that_is_only_looked_at_gives_no_history(name: str) -> None:
    def fn(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return getattr(x, name)(like * 2)

    plain, grad = torch.ones(2, 3), torch.ones(2, 3, requires_grad=True)
    jitted = fulmen.jit(fn)
    assert not jitted(plain, grad).requires_grad
    assert jitted(grad, plain).requires_grad


def test_default_devices() -> None:
    """Modes of torch functions decide where tensors are made."""

    def made(x: torch.Tensor) -> Any:
        return torch.ones(2), torch.zeros_like(x)

    def inside(x: torch.Tensor) -> Any:
        with torch.device("meta"):
            return torch.ones(2)

    jitted = fulmen.jit(made)
    assert jitted(x())[0].device.type == "cpu"
    with torch.device("meta"):
        assert jitted(x())[0].device.type == "meta"
        assert "torch.device('meta')" in fulmen.stats(jitted).splits["the whole function"]
    torch.set_default_device("meta")
    try:
        assert jitted(x())[0].device.type == "meta"
    finally:
        torch.set_default_device(None)
    assert jitted(x())[0].device.type == "cpu" and fulmen.stats(jitted).cache_hits == 1
    assert fulmen.jit(inside)(x()).device.type == "meta"
