"""torch.inference_mode and the grad modes, around calls of fulmen.jit and inside its programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import fulmen

MODES = [torch.enable_grad, torch.no_grad, torch.inference_mode]


def t(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*(shape or (4, 4))).requires_grad_(grad)


def describe(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.is_inference(), value.requires_grad, value.is_leaf, value.grad_fn is not None


def check(fn: Callable[..., Any], *args: torch.Tensor, modes: Any = MODES) -> None:
    """Results, what is known of them, and the modes afterwards, against eager's."""
    jitted = fulmen.jit(fn)
    for mode in modes:
        for _ in range(2):
            ours = [a.detach().clone().requires_grad_(a.requires_grad) for a in args]
            theirs = [a.detach().clone().requires_grad_(a.requires_grad) for a in args]
            with mode():
                got, expected = jitted(*ours), fn(*theirs)
                state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            assert state == (mode is torch.enable_grad, mode is torch.inference_mode)
            a, b = pytree.tree_leaves((got, ours)), pytree.tree_leaves((expected, theirs))
            assert [describe(x) for x in a] == [describe(x) for x in b]
            for x, y in zip(a, b, strict=True):
                assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    stats = fulmen.stats(jitted)
    assert stats.splits == {} and stats.fallbacks == {}
    assert stats.cache_hits >= len(modes)


def test_region() -> None:
    def fn(x: torch.Tensor) -> Any:
        a = x * 2
        with torch.inference_mode():
            b = a + 1
            c = b.t()
            d = a.view(-1)
            seen = b.is_inference(), d.is_inference(), torch.is_inference(x)
        return a, b, c, d, a.sin(), seen, torch.is_inference_mode_enabled()

    check(fn, t(grad=True))
    check(fn, t())


def test_decorator_of_the_whole_function() -> None:
    @torch.inference_mode()
    def fn(x: torch.Tensor) -> Any:
        y = x.relu()
        y.add_(1)
        y[0] = 2
        return y, y[1:], x.view(-1), torch.ones(2)

    check(fn, t(grad=True))
    check(fn, t())


def test_nested_and_disabled() -> None:
    def fn(x: torch.Tensor) -> Any:
        with torch.inference_mode():
            a = x + 1
            with torch.inference_mode(False):
                b = x * 2
                state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
                with torch.inference_mode():
                    c = b * 3
            d = x * 3
            with torch.no_grad(), torch.inference_mode(False):
                e = x * 4
            with torch.enable_grad():
                f = x * 5
                inner = torch.is_grad_enabled()
        return a, b, c, d, e, f, state, inner

    check(fn, t(grad=True))
    check(fn, t())


def test_writes_to_inputs() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        with torch.inference_mode():
            x.add_(1)
            z = y * x
            z.mul_(2)
        return z, x * 1

    check(fn, t(), t(grad=True))


def test_parameters_are_written() -> None:
    def update(mode: Any) -> Callable[..., Any]:
        def fn(p: torch.Tensor, g: torch.Tensor) -> Any:
            with mode():
                p.sub_(g, alpha=0.1)
            return p * 2

        return fn

    for mode in (torch.no_grad, torch.inference_mode):
        check(update(mode), t(grad=True), t())


def test_inference_tensors_as_arguments() -> None:
    def fn(x: torch.Tensor) -> Any:
        return x + 1, x.view(-1), x.is_inference()

    jitted = fulmen.jit(fn)
    with torch.inference_mode():
        x = t()
    for tensor in (t(), x, t(), x):
        got, expected = jitted(tensor), fn(tensor)
        assert [describe(v) for v in got] == [describe(v) for v in expected]
    stats = fulmen.stats(jitted)
    assert (stats.cache_hits, stats.cache_misses) == (2, 2) and stats.splits == {}
    assert "inference" in stats.recompiles[0]


def test_results_are_refused_as_eagers() -> None:
    jitted = fulmen.jit(torch.inference_mode()(lambda x: x * 2))
    for _ in range(2):
        y = jitted(t())
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
            y.add_(1)
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
            y * t(grad=True)


@pytest.mark.parametrize("where", ["inside", "argument"])
def test_a_program_that_eager_refuses(where: str) -> None:
    def make(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return x * 2

    def write(x: torch.Tensor) -> torch.Tensor:
        y = make(x) if where == "inside" else x
        return y.add_(1)

    def save(x: torch.Tensor) -> torch.Tensor:
        y = make(x) if where == "inside" else x
        return y * w

    w = t(grad=True)
    x = t() if where == "inside" else make(t())
    for fn, message in ((write, "Inplace update to inference tensor"), (save, "cannot be saved")):
        with pytest.raises(RuntimeError, match=message):
            fulmen.jit(fn)(x)
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_autograd_that_does_not_save_an_inference_tensor() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            y = x * 2
        return y + w

    x, w = t(), t(grad=True)
    got, expected = fulmen.jit(fn)(x, w), fn(x, w)
    assert torch.equal(got, expected) and got.requires_grad
    got.sum().backward()
    assert torch.equal(w.grad, torch.ones(4, 4))


def test_a_value_is_asked_for() -> None:
    def fn(x: torch.Tensor) -> Any:
        a = x * 2
        with torch.inference_mode():
            b = x + 1
            if b.sum() > 0:
                b = b * 2
            c = b - 1
            d = x.view(-1)
        return a, b, c, d, x * 3

    check(fn, t(grad=True), modes=[torch.enable_grad])
    x, jitted = t(grad=True), fulmen.jit(fn)
    for sign in (1.0, -1.0, 1.0, -1.0):
        y = (x.detach() * sign).requires_grad_()
        got, expected = jitted(y), fn(y)
        assert [describe(v) for v in got] == [describe(v) for v in expected]
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_nested_grad_modes() -> None:
    def fn(x: torch.Tensor) -> Any:
        with torch.no_grad():
            with torch.no_grad():
                a = x * 2
            b = x * 3
            inside = torch.is_grad_enabled()
            with torch.enable_grad():
                c = x * 4
                with torch.set_grad_enabled(False):
                    d = x * 5
                e = x * 6
            f = x * 7
        return a, b, c, d, e, f, x * 8, inside, torch.is_grad_enabled()

    check(fn, t(grad=True))
    trace = fulmen.trace(fn)(t(grad=True))
    grads = [p.requires_grad for p in trace.output if hasattr(p, "requires_grad")]
    assert grads == [False, False, True, False, True, False, True]


def test_grad_mode_decorators() -> None:
    @torch.no_grad()
    def a(x: torch.Tensor) -> Any:
        return x * 2, b(x), x * 3

    @torch.enable_grad()
    def b(x: torch.Tensor) -> Any:
        return x * 4

    @torch.set_grad_enabled(False)
    def c(x: torch.Tensor) -> Any:
        return x * 5

    def fn(x: torch.Tensor) -> Any:
        return a(x), b(x), c(x), x * 6

    check(fn, t(grad=True))


def test_grad_modes_and_exceptions() -> None:
    def fn(x: torch.Tensor) -> Any:
        try:
            with torch.no_grad():
                a = x * 2
                raise ValueError(torch.is_grad_enabled())
        except ValueError as e:
            return a, e.args, x * 3

    check(fn, t(grad=True))


def test_generators_in_a_grad_mode() -> None:
    def fn(x: torch.Tensor) -> Any:
        @torch.no_grad()
        def steps() -> Any:
            y = x
            for _ in range(3):
                y = y * 2
                yield y, torch.is_grad_enabled()

        results = []
        for y, inside in steps():
            results += [y, inside, y + x, torch.is_grad_enabled()]
        return results

    check(fn, t(grad=True))


def test_the_mode_stays_set_after_the_call() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch.set_grad_enabled(False)
        return y

    x, jitted = t(grad=True), fulmen.jit(fn)
    for _ in range(2):
        try:
            assert jitted(x).requires_grad
            assert not torch.is_grad_enabled()
        finally:
            torch.set_grad_enabled(True)


def test_a_failing_program_leaves_the_modes() -> None:
    def fn(x: torch.Tensor, i: torch.Tensor) -> Any:
        with torch.inference_mode():
            return x[i]

    x, jitted = t(), fulmen.jit(fn)
    jitted(x, torch.tensor([1]))
    with pytest.raises(IndexError):
        jitted(x, torch.tensor([7]))
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    assert (x * 1).is_inference() is False


def test_an_inference_tensor_that_requires_grad() -> None:
    def fn(x: torch.Tensor) -> Any:
        with torch.inference_mode(False):
            y = x * 2
        return y, x * 3

    with torch.inference_mode():
        x = t().requires_grad_()
        got, expected = fulmen.jit(fn)(x), fn(x)
    assert [describe(v) for v in got] == [describe(v) for v in expected]
