"""Runs a program and its backward as one compiled function, and compares gradients bit for bit."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable
from typing import Any

import torch

import fulmen
from fuzz_check import SEEDS, Failure, _flat, _same_bits
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


def check_whole(program: Program, count: collections.Counter[str] | None = None) -> Failure | None:
    """The first difference from eager, if any; `count` gets what the program was."""
    count = count if count is not None else collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _check(program, count)


def _check(program: Program, count: collections.Counter[str]) -> Failure | None:
    make_function, make_inputs = load(program.text(), "fuzz")
    plain, compiled = make_function(), make_function()
    eager, jitted = _step(plain), fulmen.jit(_step(compiled), cache=program.cache)
    for seed in SEEDS[1:]:
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
        if fulmen.stats(jitted).splits:
            count["left to eager"] += 1
            return None
        if got is None or not _same_bits(got[0], wanted[0]):
            return Failure("value", f"{got and got[0]}, eager: {wanted[0]}")
        for i, (a, b) in enumerate(zip(got[1], wanted[1], strict=True)):
            if (a is None) != (b is None):
                return Failure("gradient is None", f"{i}: {a}, eager: {b}")
            if a is not None and b is not None and not _same_bits(a, b):
                return Failure("gradient", f"{i}: {a}, eager: {b}")
    count["programs"] += 1
    return None
