"""Regions that write to their inputs: optimizers' updates, statistics, caches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fulmen
from fulmen import examine

SIZES = [(1,), (3,), (7,), (8,), (9,), (15,), (16,), (17,), (31,), (33,), (100,), (5, 7), (4099,)]


def regions(f) -> int:
    """How many regions the last program of `f` has."""
    return str(fulmen.last_traces(f)[-1]).count("\ndef fusion")


def update(x: torch.Tensor, y: torch.Tensor) -> None:
    x.mul_(0.5).add_(y).sub_(1)
    y.add_(x)


def update_integers(x: torch.Tensor, y: torch.Tensor) -> None:
    x.mul_(3).add_(y).sub_(1)
    y.add_(x)


def double_and_add(x: torch.Tensor) -> None:
    x.mul_(2).add_(1)


@pytest.mark.parametrize("isa", ["sse", "avx2", "avx512"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
def test_every_element_is_written_once(dtype: torch.dtype, isa: str) -> None:
    for shape in SIZES:
        x = (torch.randn(shape) * 8).to(dtype)
        y = (torch.randn(shape) * 8).to(dtype)
        change = update if dtype.is_floating_point else update_integers
        a, b = x.clone(), y.clone()
        change(a, b)
        f = fulmen.jit(change, executors=["fusion", "aten"])
        f(x, y)
        assert regions(f) == 1
        assert torch.equal(x, a) and torch.equal(y, b), shape


def test_blocks_of_threads() -> None:
    for shape in [(1 << 20,), ((1 << 20) + 5,), (1031, 1033), (70_001, 3)]:
        x, y = torch.randn(shape), torch.randn(shape)
        a, b = x.clone(), y.clone()
        update(a, b)
        f = fulmen.jit(update, executors=["fusion", "aten"])
        f(x, y)
        assert regions(f) == 1
        assert torch.equal(x, a) and torch.equal(y, b), shape


@pytest.mark.parametrize("layout", ["transposed", "rows apart", "overlapping", "moved"])
def test_layouts(layout: str) -> None:
    def make() -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        y = torch.randn(6, 10)
        match layout:
            case "transposed":
                return torch.randn(10, 6).t(), y
            case "rows apart":
                return torch.randn(6, 20)[:, ::2], y
            case "overlapping":
                return torch.randn(15).as_strided((6, 10), (1, 1)), y
            case _:
                return torch.randn(6, 10), y

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = x.flip(0) if layout == "moved" else y
        x.mul_(2).add_(z)
        return x

    x, y = make()
    got_x, got_y = make()
    compiled = fulmen.jit(f, executors=["fusion", "aten"])
    try:
        expected = f(x, y)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            compiled(got_x, got_y)
        return
    result = compiled(got_x, got_y)
    assert result is got_x
    assert torch.equal(result, expected) and torch.equal(got_y, y)


def test_an_input_that_is_read_in_another_place() -> None:
    def f(x: torch.Tensor) -> None:
        x.copy_((x.t() + 1) * 2)

    x = torch.randn(64, 64)
    expected = (x.t() + 1) * 2
    fulmen.jit(f, executors=["fusion", "aten"])(x)
    assert torch.equal(x, expected)


def test_old_values_are_read_before() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        old = x @ w
        x.mul_(2).add_(1)
        return old + x @ w

    x, w = torch.randn(8, 8), torch.randn(8, 8)
    a = x.clone()
    expected = f(a, w)
    got = fulmen.jit(f, executors=["fusion", "aten"])(x, w)
    assert torch.equal(got, expected) and torch.equal(x, a)


def test_two_names_of_one_tensor() -> None:
    x = torch.randn(40)
    a = x.clone()
    update(a, a)
    f = fulmen.jit(update, executors=["fusion", "aten"])
    f(x, x)
    assert torch.equal(x, a)
    y, z = torch.randn(40), torch.randn(40)
    b, c = y.clone(), z.clone()
    update(b, c)
    f(y, z)
    assert torch.equal(y, b) and torch.equal(z, c)


def test_a_leaf_in_grad_mode() -> None:
    x = torch.randn(4, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        fulmen.jit(double_and_add, executors=["fusion", "aten"])(x)


def test_what_autograd_saved_is_seen_to_change() -> None:
    w = torch.randn(4, requires_grad=True)
    x = torch.randn(4)
    out = (w * x).sum()
    f = fulmen.jit(double_and_add, executors=["fusion", "aten"])
    f(x)
    assert regions(f) == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=1e-2),
        lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, lr=1e-2, centered=True),
    ],
)
def test_optimizers(make) -> None:
    """Alone, in one region for each parameter, as close to float64 as eager's."""
    torch.manual_seed(0)
    shapes = [(33, 17), (17,), (5,), (1,), (64, 64)]
    values = [torch.randn(s) for s in shapes]
    grads = [[torch.randn(s) for s in shapes] for _ in range(10)]

    def run(dtype: torch.dtype, jit: bool) -> list[torch.Tensor]:
        parameters = [nn.Parameter(v.to(dtype)) for v in values]
        optimizer = make(parameters)
        step = optimizer.step
        if jit:
            step = fulmen.jit(step, fullgraph=True, executors=["fusion", "aten"])
        for now in grads:
            for p, g in zip(parameters, now, strict=True):
                p.grad = g.to(dtype)
            step()
        if jit:
            text = str(fulmen.last_traces(step)[-1])
            assert "torch.Tensor.copy_" not in text.split("def computation")[1]
        return [p.detach() for p in parameters]

    exact = run(torch.float64, jit=False)
    eager = run(torch.float32, jit=False)
    ours = run(torch.float32, jit=True)
    for reference, theirs, own in zip(exact, eager, ours, strict=True):
        unit = torch.finfo(torch.float32).eps * reference.abs().max()
        assert (own - reference).abs().max() <= (theirs - reference).abs().max() + unit


def test_statistics_of_a_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).train()
    twin = copy.deepcopy(model)
    compiled = fulmen.jit(model, executors=["fusion", "aten"])
    for _ in range(3):
        x = torch.randn(4, 3, 9, 9)
        torch.testing.assert_close(compiled(x), twin(x))
    for (name, a), (_, b) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_claims_are_reported() -> None:
    f = fulmen.jit(update, executors=["fusion", "aten"])
    f(torch.randn(4), torch.randn(4))
    assert "fusion" in str(examine.executors(f))
