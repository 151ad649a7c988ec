"""Losses of classes, views and joined tensors in regions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

from fused import compare, run_fused

import fulmen
from fulmen import _core


def check(fn, *args: torch.Tensor, regions: int) -> None:
    fused, problem = compare(fn, args)
    assert not problem, problem
    assert not fused.others, f"not fused: {fused.others} {fused.notes}"
    assert fused.regions == regions


def targets(rows: int, classes: int) -> torch.Tensor:
    found = torch.randint(0, classes, (rows,))
    found[rows // 2] = -100
    return found


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (37, 1003), (600, 5)])
def test_cross_entropy(shape: tuple[int, int], isa: str) -> None:
    x, t = torch.randn(shape), targets(*shape)
    if shape[0] == 1:
        t[0] = 1
    for reduction, kernels in (("mean", 2), ("sum", 2), ("none", 1)):
        check(lambda x, t, r=reduction: F.cross_entropy(x, t, reduction=r), x, t, regions=kernels)
        check(
            lambda x, t, r=reduction: F.nll_loss(x.log_softmax(-1), t, reduction=r),
            x, t, regions=kernels,
        )  # fmt: skip
    t = t.clamp(min=0)
    check(lambda x, t: F.cross_entropy(x, t, ignore_index=1), x.bfloat16(), t, regions=2)


def test_all_rows_ignored() -> None:
    check(lambda x, t: F.cross_entropy(x, t), torch.randn(4, 5), torch.full((4,), -100), regions=2)


@pytest.mark.parametrize("target", [5, -1])
def test_targets_are_checked(target: int) -> None:
    x, t = torch.randn(3, 5), torch.tensor([0, target, 1])
    with pytest.raises(IndexError) as eager:
        F.cross_entropy(x, t)
    with pytest.raises(IndexError) as ours:
        run_fused(lambda x, t: F.cross_entropy(x, t), (x, t))
    assert str(eager.value).splitlines()[0] == str(ours.value).splitlines()[0]


def test_gradient_of_cross_entropy() -> None:
    def loss(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x * 2, t) + F.cross_entropy(x, t, reduction="sum")

    x, t = torch.randn(37, 103), targets(37, 103)
    _core.set_flag("executors", "fusion")
    try:
        ours = x.clone().requires_grad_()
        fulmen.jit(loss)(ours, t).backward()
    finally:
        _core.set_flag("executors", "")
    eager, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    loss(eager, t).backward()
    loss(exact, t).backward()
    assert ours.grad is not None and eager.grad is not None and exact.grad is not None
    error, allowed = ((g.double() - exact.grad).abs().max() for g in (ours.grad, eager.grad))
    assert error <= 1.5 * allowed + 1e-7


def rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("shape", [(1, 1, 2), (5, 7, 50), (2, 3, 128), (3, 200, 6), (2, 9, 8192)])
def test_rotary_is_one_region(shape: tuple[int, ...], isa: str) -> None:
    angles = torch.randn(shape[1:])
    check(rotary, torch.randn(shape), angles.cos(), angles.sin(), regions=1)
    # as attention has it: heads before tokens
    x = torch.randn(shape[0], shape[1] * 3, shape[2])
    check(
        lambda x, c, s: rotary(x.view(shape[0], shape[1], 3, shape[2]).transpose(1, 2), c, s),
        x, angles.cos(), angles.sin(), regions=1,
    )  # fmt: skip


def test_joined_along_any_dimension() -> None:
    x, y, z = torch.randn(5, 9), torch.randn(9, 4), torch.randn(1, 9)
    check(lambda x, y, z: torch.cat([x * 2, y.t(), z + 1.0], 0).exp() * 3, x, y, z, regions=1)
    check(lambda x, y: torch.cat([x, y.t()], 0)[3:7, ::2] * 3, torch.randn(5, 9), y, regions=2)
    empty = torch.empty(0)
    x = torch.randn(3, 4)
    check(lambda x, e: torch.cat([x, e, x.double()], 1) * 2, x, empty, regions=1)


def test_reductions_of_joined_tensors_are_apart() -> None:
    x, y = torch.randn(3, 4), torch.randn(3, 5)
    check(lambda x, y: torch.cat([x, y], 1).softmax(-1) * 2, x, y, regions=2)


def test_views_between_operations() -> None:
    def program(x: torch.Tensor):
        h = x * 2
        a, b = h.split(8, 1)
        return a.exp() * b, h.view(5, 2, 8).sum(-1), h.unsqueeze(0) * x.t().contiguous().t()

    _, problem = compare(program, (torch.randn(5, 16),))
    assert not problem, problem
    check(lambda x: (x - x.mean(-1).unsqueeze(-1)) * 2, torch.randn(6, 40), regions=1)
    check(lambda x: (x.view(6, 2, 20).transpose(0, 1) + 1).relu(), torch.randn(6, 40), regions=1)


def test_views_that_are_returned_stay() -> None:
    def program(x: torch.Tensor):
        h = x + 1
        return h[2:], (h[2:] * 3).exp(), h.t()

    _, problem = compare(program, (torch.randn(5, 16),))
    assert not problem, problem


def test_large_results_go_past_the_caches() -> None:
    """With rows whose ends are not aligned, and blocks that end within a vector."""
    for shape in [(3, 3_000_001), (9_000, 1000), (9_001, 1003)]:
        x, b = torch.randn(shape), torch.randn(shape[1])
        check(lambda x, b: (x + b) * 2, x, b, regions=1)
        check(lambda x: (x + 1).bfloat16(), x, regions=1)


@pytest.mark.parametrize("rows", [1, 100])
def test_under_vmap(rows: int) -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x * 2).tanh() * x

    _core.set_flag("executors", "fusion")
    try:
        x = torch.randn(rows, dtype=torch.float64, requires_grad=True)
        seeds = torch.eye(rows, dtype=torch.float64)
        got = torch.autograd.grad(fulmen.jit(loss)(x), x, seeds, is_grads_batched=True)[0]
    finally:
        _core.set_flag("executors", "")
    expected = torch.autograd.grad(loss(x), x, seeds, is_grads_batched=True)[0]
    torch.testing.assert_close(got, expected)


PLACED = {
    "halves": lambda x: torch.cat((-x[..., 4:], x[..., :4]), -1) * x,
    "rows": lambda x: x[:, 1:-1].exp() * 2,
    "one": lambda x: x[:, 2].sin() + x[:, -1],
    "both": lambda x: x.narrow(1, 1, 2).sin() * x.select(2, 3)[:, 1:3, None],
    "nothing": lambda x: x[:, 2:2].exp().sum() + x.sin(),
    "steps": lambda x: x[..., ::2].sin() * 2,
}


@pytest.mark.parametrize("name", PLACED)
def test_gradients_of_slices(name: str) -> None:
    """Zeros around a slice's gradient are part of the region that reads them."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, 8, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    f = fulmen.jit(PLACED[name], executors=["fusion", "aten"])
    for _ in range(2):
        weight = torch.randn_like(PLACED[name](twin))
        f(x).backward(weight)
        PLACED[name](twin).backward(weight)
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-6, atol=1e-6)


def test_rotary_gradient_is_one_region() -> None:
    def step(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        first, second = q[..., :16], q[..., 16:]
        out = q * cos + torch.cat((-second, first), -1) * sin
        return torch.autograd.grad(out.pow(2).sum(), q)[0]

    q = torch.randn(2, 3, 32, requires_grad=True)
    cos, sin = torch.randn(3, 32), torch.randn(3, 32)
    f = fulmen.jit(step, executors=["fusion", "aten"], fullgraph=True)
    torch.testing.assert_close(f(q, cos, sin), step(q, cos, sin))
    assert "slice_backward" not in str(fulmen.last_traces(f)[-1]).split("def computation")[1]
