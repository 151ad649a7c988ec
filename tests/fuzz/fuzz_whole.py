"""Runs a program and its backward as one compiled function, and compares gradients: bit for bit, or
up to what kernels round."""

from __future__ import annotations

import collections
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from fuzz_rounding import EXECUTORS, Judge, move_all, rounding

import fulmen
from fuzz_check import SEEDS, Failure, Same, _flat, _same_bits, _state
from fuzz_program import Program, load

Tensor = torch.Tensor


def _leaves(scope: dict[str, Any], function: Any) -> list[Tensor]:
    found = [v for v in scope.values() if isinstance(v, Tensor)]
    if isinstance(function, torch.nn.Module):
        found += list(function.parameters())
    found = [v for v in found if v.is_leaf and v.requires_grad]
    return [v for i, v in enumerate(found) if not any(v is w for w in found[:i])]


def _loss(result: Any) -> Tensor | None:
    """A sum over the results in which no two elements weigh the same."""
    total = None
    results = [v for v in _flat(result, "").values() if isinstance(v, Tensor) and v.requires_grad]
    for i, v in enumerate(results):
        n = torch.arange(v.numel(), dtype=torch.float64).reshape(v.shape)
        part = (v * (n * 0.37 + i).sin().to(v.dtype)).sum().double()
        total = part if total is None else total + part
    return total


def _step(function: Any) -> Callable[..., Any]:
    def step(leaves: list[Tensor], *args: Any) -> Any:
        loss = _loss(function(*args))
        if loss is None:
            return None
        return loss.detach(), torch.autograd.grad(loss, leaves, allow_unused=True)

    return step


def check_whole(
    program: Program, count: collections.Counter[str] | None = None, kernels: bool = False
) -> Failure | None:
    """The first difference from eager, if any; `count` gets what the program was."""
    count = count if count is not None else collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _check(program, count, kernels)


check_whole_kernels = functools.partial(check_whole, kernels=True)


def _judge(program: Program, seeds: tuple[int, ...]) -> Judge:
    """Of the last of some steps, before which come the others."""

    def again(program: Program, generator: torch.Generator | None) -> dict[str, Tensor]:
        make_function, make_inputs = load(program.text(), "fuzz")
        function = make_function()
        move_all(_state(function), generator)
        for seed in seeds:
            scope, args = make_inputs(seed, function)
            move_all([v for v in scope.values() if isinstance(v, Tensor)], generator)
            torch.manual_seed(3)
            with rounding(generator):
                try:
                    out = _step(function)(_leaves(scope, function), *args)
                except Exception:
                    return {}
        found = {} if out is None else {"loss": out[0], **_flat(out[1], "gradient")}
        return {n: v for n, v in found.items() if v is not None}

    return Judge(program, again)


def _check(program: Program, count: collections.Counter[str], kernels: bool) -> Failure | None:
    make_function, make_inputs = load(program.text(), "fuzz")
    plain, compiled = make_function(), make_function()
    executors = EXECUTORS if kernels else ()
    eager = _step(plain)
    jitted = fulmen.jit(_step(compiled), cache=program.cache, executors=executors)
    for number, seed in enumerate(SEEDS[1:]):
        scope, args = make_inputs(seed, plain)
        torch.manual_seed(3)
        try:
            wanted = eager(_leaves(scope, plain), *args)
        except Exception:
            count["raises in eager"] += 1
            return None
        if wanted is None:
            count["without gradients"] += 1
            return None
        scope, args = make_inputs(seed, compiled)
        torch.manual_seed(3)
        try:
            got = jitted(_leaves(scope, compiled), *args)
        except BaseException as e:  # panics of the core are no Exception
            return Failure("error", repr(e))
        stats = fulmen.stats(jitted)
        if stats.splits:
            count["left to eager"] += 1
            return None
        same: Same = lambda _, a, b: _same_bits(a, b)  # noqa: E731
        if kernels:
            same = _judge(program, SEEDS[1 : number + 2])
        if got is None or not same("loss", got[0], wanted[0]):
            return Failure("value", f"{got and got[0]}, eager: {wanted[0]}")
        for i, (a, b) in enumerate(zip(got[1], wanted[1], strict=True)):
            if (a is None) != (b is None):
                return Failure("gradient is None", f"{i}: {a}, eager: {b}")
            if a is not None and b is not None and not same(f"gradient[{i}]", a, b):
                return Failure("gradient", f"{i}: {a}, eager: {b}")
    count["kernels"] += "fusion" in stats.kernels
    count["programs"] += 1
    return None
