"""Finding the one rewrite or claim that changes a result: `fulmen.examine.bisect`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.dynamo import FulmenCompiler
from fulmen.errors import UserTypeError
from fulmen.jit import Jitted, state_of
from fulmen.log import executors as log


@dataclasses.dataclass(frozen=True)
class Culprit:
    """The rewrite or claim with which a result is wrong, and without which it is not.

    Attributes:
        rewrite: what it is: a pass, an executor's claim or a region, with the bound symbol. Empty
            where a program with no rewrite at all differs.
        number: its place among all: `FULMEN_FUEL=number` is the first that gives the difference.
        total: how many rewrites and claims the function has.
        difference: how the result differs from eager PyTorch's.
    """

    rewrite: str
    number: int
    total: int
    difference: str

    def __str__(self) -> str:
        what = self.rewrite or "not a rewrite: the program as it was acquired differs"
        return f"{what}\n  rewrite {self.number} of {self.total}: {self.difference}"


def bisect(
    fn: Any,
    *args: Any,
    differs: Callable[[Any, Any], str | bool] | None = None,
    **kwargs: Any,
) -> Culprit | None:
    """Compiles a function with fewer and fewer rewrites, to find the one that breaks a result.

    Results are compared with eager PyTorch's; so are the gradients of arguments and parameters,
    where results need them. The function and its arguments are copied for each run, and random
    numbers are drawn from the same state.

    Args:
        fn: what `fulmen.jit` returned.
        args, kwargs: of the call whose result is wrong.
        differs: called with eager's result (and gradients) and the compiled one's: an empty text or
            False where they are equal, else True or what the difference is. The default asks
            torch.testing.assert_close.

    Returns:
        the culprit; None where the compiled function gives eager's result.
    """
    state = state_of(fn)
    if isinstance(state, FulmenCompiler):
        raise UserTypeError(
            "bisect(): got a FulmenCompiler; expected what fulmen.jit returned", "not-jitted"
        )
    runs = _Runs(state, args, kwargs, differs or _differs)
    difference, fuel = runs.compiled(-1)
    if not difference:
        return None
    total = fuel.taken
    first, fuel = runs.compiled(0)
    if first:
        return Culprit("", 0, total, first)
    good, bad = 0, total
    while bad - good > 1:
        middle = (good + bad) // 2
        found, _ = runs.compiled(middle)
        log.info("bisect: %d of %d rewrites: %s", middle, total, found or "equal")
        if found:
            bad, difference = middle, found
        else:
            good = middle
    found, fuel = runs.compiled(bad)
    return Culprit(fuel.last, bad, total, found or difference)


class _Runs:
    def __init__(
        self,
        state: Jitted,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        differs: Callable[[Any, Any], str | bool],
    ) -> None:
        self.state = state
        self.call = (args, kwargs)
        self.differs = differs
        self.random = torch.get_rng_state()
        self.expected = self._run(lambda fn: fn)

    def compiled(self, limit: int) -> tuple[str, _core.Fuel]:
        """How the result with so many rewrites differs, and what was taken of them."""
        fuel = _core.Fuel(limit)
        got = self._run(lambda fn: Jitted(fn, self.state.options, fuel).function)
        answer = self.differs(self.expected, got)
        text = answer if isinstance(answer, str) else "the results differ" if answer else ""
        return text, fuel

    def _run(self, make: Callable[[Any], Callable[..., Any]]) -> Any:
        outer = torch.get_rng_state()
        fn, (args, kwargs) = copy.deepcopy((self._fn(), self.call))
        if not isinstance(fn, torch.nn.Module):
            fn = self.state.fn
        try:
            torch.set_rng_state(self.random)
            result = make(fn)(*args, **kwargs)
            return result, _gradients(result, fn, (args, kwargs))
        except Exception as e:
            return e, None
        finally:
            torch.set_rng_state(outer)

    def _fn(self) -> Any:
        return self.state.fn if isinstance(self.state.fn, torch.nn.Module) else None


def _gradients(result: Any, fn: Any, inputs: Any) -> list[Any]:
    outputs = [
        t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor) and t.requires_grad
    ]
    leaves = list(fn.parameters()) if isinstance(fn, torch.nn.Module) else []
    leaves += [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    leaves = [t for t in leaves if t.requires_grad and t.is_leaf]
    if not outputs or not leaves:
        return []
    seeds = [_seed(t) for t in outputs]
    return list(torch.autograd.grad(outputs, leaves, seeds, allow_unused=True))


def _seed(of: torch.Tensor) -> torch.Tensor:
    values = torch.linspace(0.5, 1.5, of.numel(), dtype=torch.float64)
    return values.reshape(of.shape).to(of.device, of.dtype)


def _differs(expected: Any, got: Any) -> str:
    if isinstance(expected[0], Exception) or isinstance(got[0], Exception):
        if type(expected[0]) is type(got[0]):
            return ""
        error = got[0] if isinstance(got[0], Exception) else expected[0]
        who = "the compiled function" if isinstance(got[0], Exception) else "eager PyTorch"
        return f"{who} raised {type(error).__name__}: {error}"
    for what, one, other in (
        ("result", expected[0], got[0]), ("gradients", expected[1], got[1])
    ):  # fmt: skip
        a, b = pytree.tree_leaves(one), pytree.tree_leaves(other)
        if len(a) != len(b):
            return f"{what}: {len(b)} values, eager has {len(a)}"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            problem = _leaf_differs(x, y)
            if problem:
                return f"{what} {i}: {problem}"
    return ""


def _leaf_differs(expected: Any, got: Any) -> str:
    if not isinstance(expected, torch.Tensor) or not isinstance(got, torch.Tensor):
        same = type(expected) is type(got) and bool(expected == got)
        return "" if same else f"got {got!r}, eager {expected!r}"
    try:
        torch.testing.assert_close(got, expected, equal_nan=True)
    except AssertionError as e:
        return str(e).split("\n\n")[-1].replace("\n", "; ")
    return ""
