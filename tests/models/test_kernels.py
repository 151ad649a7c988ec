"""Model families trained by generated kernels whose tensors stand between guard pages: losses and
gradients are as close to float64 as eager's are. (In mixtral's program there are none.)"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import fulmen
from families import FAMILIES, Family
from fulmen import _core


@pytest.fixture(params=["end", "start"])
def guard(request: pytest.FixtureRequest):
    _core.set_flag("guard", request.param)
    yield
    _core.set_flag("guard", "")


def loss_and_gradients(
    family: Family, model: torch.nn.Module, run: Callable[..., Any], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """By name of the parameter; the loss as ""."""

    def wide(value: Any) -> Any:
        real = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if real else value

    model.zero_grad()
    loss = family.loss(run(**pytree.tree_map(wide, family.inputs())))
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"": loss.detach(), **found}


def distance(a: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest one of numbers; infinite if NaN are at other places."""
    if not torch.equal(a.isnan(), exact.isnan()):
        return float("inf")
    return float((a - exact).abs().nan_to_num(0.0).max())


def errors_of_eager(family: Family, model: torch.nn.Module, draws: int) -> dict[str, float]:
    """How far eager's results are from float64's at most, by name: for the model's parameters and
    for others that differ from them in the last place."""
    generator, most = torch.Generator().manual_seed(0), dict[str, float]()
    for draw in range(draws + 1):
        near = copy.deepcopy(model)
        with torch.no_grad():
            for p in near.parameters() if draw else ():
                signs = torch.randint(0, 2, p.shape, generator=generator) * 2 - 1
                p.mul_(1 + signs * torch.finfo(p.dtype).eps)
        eager = loss_and_gradients(family, near, near, torch.float32)
        exact = loss_and_gradients(family, near.double(), near, torch.float64)
        for name, e in eager.items():
            most[name] = max(most.get(name, 0.0), distance(e, exact[name]))
    return most


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_training(family: Family, guard: None) -> None:
    model = family.build().eval()  # float64 would draw other numbers
    compiled = fulmen.jit(model, executors=["fusion"])
    eager = loss_and_gradients(family, model, model, torch.float32)
    ours = loss_and_gradients(family, model, compiled, torch.float32)
    assert fulmen.stats(compiled).kernels.get("fusion") or family.name == "mixtral"
    assert ours.keys() == eager.keys()
    differ = [n for n, e in eager.items() if not torch.allclose(ours[n], e, 0, 0, equal_nan=True)]
    if not differ:
        return
    allowed = errors_of_eager(family, model, draws=4)
    double = copy.deepcopy(model).double()
    exact = loss_and_gradients(family, double, double, torch.float64)
    for name in differ:
        error = distance(ours[name], exact[name])
        rounding = (
            4 * torch.finfo(torch.float32).eps * float(exact[name].abs().nan_to_num(0.0).max())
        )
        most = 2 * allowed[name] + rounding
        assert error <= most, f"{name}: {error:.3g}, eager {allowed[name]:.3g}"


def test_dropout_draws_eagers_numbers() -> None:
    family = next(f for f in FAMILIES if f.name == "gpt2")
    model = family.build()
    torch.manual_seed(0)
    eager = loss_and_gradients(family, model, model, torch.float32)
    torch.manual_seed(0)
    compiled = fulmen.jit(model, executors=["fusion"])
    ours = loss_and_gradients(family, model, compiled, torch.float32)
    for name, e in eager.items():
        torch.testing.assert_close(ours[name], e, rtol=1e-4, atol=1e-5)
