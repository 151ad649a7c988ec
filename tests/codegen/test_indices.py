"""Gathers, masks made of indices, and joined pieces in regions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

from fused import compare, run_fused

from fulmen import _core

ISAS = ["sse", "avx2", "avx512"]


@pytest.fixture(params=["", "end", "start"])
def guard(request: pytest.FixtureRequest):
    _core.set_flag("guard", request.param)
    yield
    _core.set_flag("guard", "")


def check(fn, *args: Any, regions: int = 1) -> None:
    fused, problem = compare(fn, args)
    assert not problem, problem
    assert not fused.others, f"not fused: {fused.others} {fused.notes}"
    assert fused.regions == regions, str(fused.trace)


def integers(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("isa", ISAS, indirect=True)
@pytest.mark.parametrize("width", [1, 3, 8, 17, 64])
def test_embedding(width: int, isa: str, guard: None) -> None:
    table, positions = torch.randn(11, width), torch.randn(7, width)
    words = integers(11, 2, 5)

    def embed(words: torch.Tensor, table: torch.Tensor, positions: torch.Tensor):
        at = torch.arange(words.shape[1])
        return F.layer_norm(F.embedding(words, table) * 2 + F.embedding(at, positions), (width,))

    # Positions are looked up once for all sequences.
    check(embed, words, table, positions, regions=2)
    check(embed, words.int(), table.bfloat16(), positions.bfloat16(), regions=2)
    check(embed, words.t().contiguous().t(), table.t().contiguous().t(), positions, regions=2)
    check(lambda w, t: F.embedding(w[:, None], t, padding_idx=0).sum(-1) + 1, words, table)
    check(lambda w, t: F.embedding(w, t) + 1, words[0, 0], table)


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_indexing(isa: str, guard: None) -> None:
    x = torch.randn(5, 9, 6)
    for dim, size in enumerate(x.shape):
        check(lambda x, i, d=dim: x.index_select(d, i) * 2, x, integers(size, 13))
        turned = x.transpose(0, 1).contiguous().transpose(0, 1)
        check(lambda x, i, d=dim: x.index_select(d, i) * 2, turned, integers(size, 4))
        shape = list(x.shape)
        shape[dim] = 4
        check(lambda x, i, d=dim: x.gather(d, i).exp(), x, integers(size, *shape))
        shape[(dim + 1) % 3] -= 2
        check(lambda x, i, d=dim: x.gather(d, i).exp(), x, integers(size, *shape))
    few = integers(5, 3) - 2
    check(lambda x, i: x[i] * 2, x, few)
    check(lambda x, i: x[:, i] * 2, x, few)
    check(lambda x, i, j: x[i, j] * 2, x, few[:, None], integers(9, 7))
    check(lambda x, i, j: x[:, i, j].sum(0) * 2, x, integers(9, 2, 5), integers(6, 5))
    check(lambda x, i: x[..., i, :2] * 2, x, few)
    check(lambda x, i: x[1:].transpose(0, 2)[i, 1:, 0::2] * 2, x, few)
    check(lambda x, i: x.view(5, 3, 3, 6)[:, 2].chunk(2, -1)[1][i] * 2, x, few)
    check(lambda x, i: x[i].softmax(-1), x.double(), few)
    check(lambda x, i: (x * 3)[i] * 2, x, few, regions=2)


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_indices_that_a_region_computes(isa: str, guard: None) -> None:
    x, i, words = torch.randn(33, 7), integers(40, 33, 7), integers(100, 5)
    check(lambda x, i: x.gather(0, (i * 13 - 4) % 33) * 2, x, i)
    check(lambda x, i: x.gather(0, (i // 3).clamp(0, 32)) * 2, x, i)
    check(lambda x, i: x.gather(0, torch.where(i > 8, i % 4, 32 - i % 33)) * 2, x, i)
    check(lambda x, i: x.gather(0, i.long() % 33) * 2, x, i.to(torch.uint8))
    check(lambda x, i: x.gather(0, i.long()) * 2, torch.randn(256, 7), i.to(torch.uint8))
    check(lambda x: x.gather(1, x.argmax(1, keepdim=True)) * 2, x)
    check(lambda x: x.gather(0, x.argmin(0, keepdim=True)) * 2, x)
    check(lambda x, w: x[w % 33 - 33, None].sin() * 2, x[:, 0], words)
    nan = torch.where(x > 1, float("nan"), x)
    check(lambda x: x.gather(1, x.argmax(1, keepdim=True)) * 2, nan)


def test_indices_that_may_be_out_of_bounds() -> None:
    x, i = torch.randn(33, 7), integers(9, 33, 7)
    for fn in (
        lambda x, i: x.gather(0, i * 3) * 2,
        lambda x, i: x.gather(0, i % 34) * 2,
        lambda x, i: x.gather(0, (i % 33) * (1 << 40) // (1 << 40)) * 2,
        lambda x, i: x.gather(0, i.clamp(max=32)) * 2,
        lambda x, i: x.gather(0, (i * 100).to(torch.int32).to(torch.int16).long() % 40) * 2,
    ):
        fused, problem = compare(fn, (x, i))
        assert not problem, problem
        assert fused.regions == 2, str(fused.trace)


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_one_hot(isa: str, guard: None) -> None:
    for shape in ((33, 7), (), (1,), (0, 3), (130,)):
        check(lambda i: F.one_hot(i, 5).float() * 2, integers(5, *shape))
    check(lambda i: F.one_hot(i % 6, 6).bfloat16().cos(), integers(90, 4, 9), regions=2)
    check(lambda x: F.one_hot(x.argmax(-1), 9).float() - x, torch.randn(33, 9))


def test_what_is_left_to_pytorch() -> None:
    x = torch.randn(5, 9)
    for fn, args in (
        (lambda x, m: x[m] * 2, (x, x[:, 0] > 0)),
        (lambda x, i: x[i, None, i] * 2, (x, integers(5, 3))),
        (lambda i, w: F.embedding(i, w, max_norm=1.0) * 2, (integers(5, 3), x)),
    ):
        fused, problem = compare(fn, args)
        assert not problem, problem
        assert fused.others


CASES: dict[str, tuple[Any, Any]] = {
    "embedding": (lambda x, i: F.embedding(i, x) * 2, [0, 5]),
    "negative embedding": (lambda x, i: F.embedding(i, x) * 2, [0, -1]),
    "index_select": (lambda x, i: x.index_select(0, i) * 2, [1, 5]),
    "gather": (lambda x, i: x.gather(0, i[:, None]) * 2, [1, -1]),
    "index": (lambda x, i: x[i] * 2, [4, -6]),
    "one_hot": (lambda x, i: F.one_hot(i, 5) * 2, [4, 5]),
    "negative one_hot": (lambda x, i: F.one_hot(i, 5) * 2, [4, -1]),
    "a divisor of another type": (lambda x, i: x[(i.to(torch.uint8) % 256).long()] * 2, [0, 1]),
    "computed": (lambda x, i: x.index_select(0, i + 4) * 2, [0, 1]),
}


@pytest.mark.parametrize("name", CASES)
def test_errors_are_eagers(name: str) -> None:
    fn, indices = CASES[name]
    x, bad = torch.randn(5, 3), torch.tensor(indices)
    with pytest.raises((IndexError, RuntimeError)) as eager:
        fn(x, bad)
    with pytest.raises((IndexError, RuntimeError)) as ours:
        run_fused(fn, (x, bad))
    assert str(eager.value).splitlines()[0] in str(ours.value)


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_masks(isa: str, guard: None) -> None:
    scores = torch.randn(2, 7, 7)

    def causal(x: torch.Tensor) -> torch.Tensor:
        rows, columns = torch.arange(7)[:, None], torch.arange(7)
        return x.masked_fill(columns > rows, -torch.inf).softmax(-1)

    def window(x: torch.Tensor) -> torch.Tensor:
        mask = torch.full((7, 7), -1e9).triu(1) + torch.ones(7, 7).tril(-3) * -5
        return (x + mask).exp()

    check(causal, scores, regions=2)  # the mask is made once for all scores
    check(window, scores, regions=2)
    for d in (-9, -2, 0, 3, 9):
        check(lambda x, d=d: x.tril(d) * 2 + x.triu(d), torch.randn(3, 5, 8))
        check(lambda x, d=d: ~x.triu(d), torch.ones(5, 4, dtype=torch.bool))
        check(lambda x, d=d: x.triu(d) + 1, integers(9, 4, 4))
    check(lambda x: x + torch.arange(3, 10), scores)
    check(lambda x: x.bfloat16() + torch.arange(3.0, -4.0, -1.0, dtype=torch.bfloat16), scores)
    check(lambda x: x * torch.zeros_like(x) + torch.ones(7) - x.new_full((7, 1), 0.1), scores)
    check(lambda x: torch.full((3,), 0.5, dtype=torch.bool) & (x > 0), torch.randn(2, 3))
    check(lambda x: torch.isneginf(x) | torch.isposinf(x * 2), torch.tensor([1.0, -torch.inf]))


@pytest.mark.parametrize("isa", ISAS, indirect=True)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_place_of_an_extreme(name: str, isa: str, guard: None) -> None:
    nan = torch.nan
    ties = torch.tensor([[1.0, 3, 3, -2], [nan, 1, nan, 4], [-0.0, 0.0, 0.0, -0.0]])
    for x in (ties, ties.nan_to_num().int(), torch.randn(5, 33), torch.randn(40, 3).bfloat16()):
        for dim in (0, 1, -1):
            check(lambda x, d=dim: getattr(x + 0, name)(d), x)
            check(lambda x, d=dim: getattr(x, name)(dim=d, keepdim=True) + 1, x)
    check(lambda x: getattr(x, name)(), torch.randn(1000))


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_joined_pieces(isa: str, guard: None) -> None:
    x = torch.randn(4, 19)
    check(lambda x: F.pad(x, (2, 3)) * 2, x)
    check(lambda x: F.pad(x * 3, (0, 1, 1, 0), value=7.0) * 2, x)
    check(lambda x: F.pad(x, (1, 0)).exp(), (x > 0))
    check(lambda x: x.roll(3, 1) * x, x)
    check(lambda x: x.roll((1, -2), (0, 1)) + x, x)
    check(lambda x: x.roll(-5) * 2, x[0])
    check(lambda x, s: x.slice_scatter(s, 1, 3, -2) * 2, x, torch.randn(4, 14))
    check(lambda x, s: x.select_scatter(s, 0, -1) * 2, x, torch.randn(19).double())
