"""What a call does happens once, whoever ends up running it; what it raises is the user's own."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest
import torch
from torch import nn

import fulmen


def x() -> torch.Tensor:
    return torch.arange(1.0, 4.0)


def outcome(fn: Any, *args: Any) -> tuple[Any, list[str]]:
    """The result, or the exception's type, message and the names of the frames it came through."""
    try:
        return fn(*args), []
    except Exception as error:
        frames = [f.name for f in traceback.extract_tb(error.__traceback__)][1:]
        return f"{type(error).__name__}: {error}", frames


def check(fn: Any, *make: Any, calls: int = 3, jitted: Any = None) -> Any:
    """Every call, of fresh arguments, has eager's result and leaves the arguments as eager does."""
    jitted = jitted or fulmen.jit(fn)
    for _ in range(calls):
        mine, plain = [m() for m in make], [m() for m in make]
        expected, got = outcome(fn, *plain), outcome(jitted, *mine)
        if isinstance(expected[0], str):
            assert got == expected
        else:
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(mine, plain, rtol=0, atol=0, equal_nan=True)
    return jitted


def test_raise_after_a_part_has_written() -> None:
    def fn(a: torch.Tensor) -> torch.Tensor:
        a.mul_(2)
        if a.sum() > 0:
            raise KeyError("mine")
        return a

    check(fn, x)


def test_eager_after_a_part_has_written() -> None:
    def fn(a: torch.Tensor, log: list[Any]) -> torch.Tensor:
        a.mul_(2)
        log.append(1)
        if a.sum() > 0:
            log.append(float(a.sum()))
            a.add_(1)
        print(end="")
        return a @ a

    jitted = check(fn, x, list)
    assert "the whole function" in fulmen.stats(jitted).splits


def test_another_answer_that_leads_to_eager() -> None:
    """The first part has run when the call turns out to go where no program goes."""

    def fn(a: torch.Tensor) -> torch.Tensor:
        a.mul_(2)
        if a.sum() > 0:
            return a + 1
        print(end="")
        return a - 1

    jitted = check(fn, x)
    check(fn, lambda: -x(), jitted=jitted)
    check(fn, x, jitted=jitted)


def test_random_numbers_are_drawn_once() -> None:
    def fn(a: torch.Tensor) -> torch.Tensor:
        a = a * torch.rand(3)
        if a.sum() > -1:
            a = a + torch.rand(3)
        print(end="")
        return a + torch.rand(3)

    jitted = fulmen.jit(fn)
    for seed in range(3):
        torch.manual_seed(seed)
        expected = fn(x()), torch.rand(1)
        torch.manual_seed(seed)
        got = jitted(x()), torch.rand(1)
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_an_input_with_a_history() -> None:
    def fn(a: torch.Tensor) -> torch.Tensor:
        a.mul_(3)
        if a.sum() > 0:
            print(end="")
        return a * a

    jitted = fulmen.jit(fn)
    for _ in range(2):
        grads = []
        for f in (fn, jitted):
            leaf = x().requires_grad_()
            f(leaf * 2).sum().backward()
            grads.append(leaf.grad)
        torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=0, equal_nan=True)


def test_a_program_that_fails_when_it_runs() -> None:
    """A value that PyTorch refuses is seen when the program runs, not when it is followed."""
    table = torch.ones(3, 2)

    def fn(index: torch.Tensor, log: list[int]) -> torch.Tensor:
        log.append(len(log))
        return table[index] + 1

    jitted = check(fn, lambda: torch.tensor([0, 1]), list)
    check(fn, lambda: torch.tensor([0, 7]), list, jitted=jitted)
    check(fn, lambda: torch.tensor([0, 1]), list, jitted=jitted)


def test_a_value_that_can_not_be_converted() -> None:
    def fn(a: torch.Tensor) -> torch.Tensor:
        a.add_(1)
        return a * int(a.sum())

    jitted = check(fn, x)
    check(fn, lambda: x() * float("nan"), jitted=jitted)


class Deep(nn.Module):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return self.inner(a + 1)

    def inner(self, a: torch.Tensor) -> torch.Tensor:
        raise ValueError("deep inside")


@pytest.mark.parametrize("make", [Deep, lambda: lambda a: Deep()(a)])
def test_the_traceback_is_the_users(make: Any) -> None:
    check(make(), x)


def test_the_traceback_of_a_refusal_is_the_users() -> None:
    def product(a: torch.Tensor) -> torch.Tensor:
        return a @ torch.ones(4, 4)

    def fn(a: torch.Tensor) -> torch.Tensor:
        return product(a)

    with pytest.raises(RuntimeError) as caught:
        fulmen.jit(fn)(x())
    assert isinstance(caught.value, fulmen.UserError)
    frames = [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[1:] == ["fn", "product"]


@pytest.mark.parametrize("parts", [1, 2])
def test_a_failing_compile_leaves_everything_as_it_was(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[Any] = []

    class Holder:
        value = 1.0

    holder = Holder()

    def fn(a: torch.Tensor) -> torch.Tensor:
        holder.value = 5.0
        log.append(a)
        a.mul_(2)
        if parts == 2 and a.sum() > 0:
            a.add_(1)
        return a * holder.value

    jit_module = sys.modules["fulmen.jit"]
    real = jit_module.compile_trace
    compiled = []

    def failing(*args: Any) -> Any:
        compiled.append(1)
        if len(compiled) == parts:
            raise AssertionError("a bug in a pass")
        return real(*args)

    monkeypatch.setattr(jit_module, "compile_trace", failing)
    jitted, a = fulmen.jit(fn), x()
    with pytest.raises(AssertionError, match="a bug in a pass"):
        jitted(a)
    assert torch.equal(a, x()) and log == [] and vars(holder) == {}
    assert torch.equal(jitted(a), (x() * 2 + (parts == 2)) * 5)
