"""Executors for tests, and how these look at what was claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import fulmen
from fulmen.extend import FusionExecutor, OperatorExecutor, get_grad, put_grad, python_callable


def claims_of(fn: Any, symbol: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [(c.executor, c.refusals) for c in fulmen.examine.executors(fn).of(symbol)]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b)


def gradients(fn: Any, *inputs: torch.Tensor) -> Any:
    result = fn(*inputs)
    return result, torch.autograd.grad(result.square().sum(), inputs)


def make(name: str, log: list[str], checker: Any = None) -> OperatorExecutor:
    """An executor that runs torch.sin."""
    made = OperatorExecutor(name)

    def run(x: torch.Tensor) -> torch.Tensor:
        log.append(name)
        return torch.sin(x)

    made.register_implementation(
        torch.sin, made.register_operator("sin", like=torch.sin, fn=run), checker=checker
    )
    return made


def make_own(log: list[str]) -> OperatorExecutor:
    """sin with a gradient that is twice the right one."""
    ex = OperatorExecutor("own")

    def meta(x: Any) -> Any:
        return torch.empty_like(x), torch.empty_like(x)

    def run(x: torch.Tensor) -> Any:
        log.append("forward")
        return torch.sin(x), 2 * torch.cos(x)

    def run_backward(g: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        log.append("backward")
        return g * c

    forward = ex.register_operator("forward", meta=meta, fn=run)
    backward = ex.register_operator(
        "backward", meta=lambda g, c: torch.empty_like(g), fn=run_backward
    )

    def gradient(x: Any) -> Any:
        out, c = forward(x)
        put_grad(x, backward(get_grad(out), c))
        return out

    ex.register_implementation(
        torch.sin, execution_transform=lambda x: forward(x)[0], grad_transform=gradient
    )
    return ex


class Recorded(FusionExecutor):
    """Runs regions as PyTorch would, and keeps them."""

    def __init__(self, name: str = "recorded", names: tuple[str, ...] = ("sin", "mul", "add")):
        super().__init__(name)
        self.names = names
        self.regions: list[list[str]] = []

    def can_fuse(self, bsym: fulmen.BoundSymbol) -> bool | str:
        return bsym.symbol.name in self.names

    def fuse(self, region: fulmen.Trace) -> Callable[..., Any]:
        self.regions.append([b.symbol.name for b in region.bound_symbols])
        return python_callable(region)
