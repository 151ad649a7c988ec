"""In-place operations, views and aliases: the same effects on the caller's tensors as eager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import fulmen


def base() -> torch.Tensor:
    return torch.arange(12.0).reshape(3, 4)


def add_in_place(x: torch.Tensor) -> torch.Tensor:
    return x.add_(1)


def set_item(x: torch.Tensor) -> torch.Tensor:
    x[0] = 5
    x[1, 2:] = torch.tensor([7.0, 8.0])
    x[x > 8] = -1
    return x * 2


def through_view(x: torch.Tensor) -> torch.Tensor:
    row = x[1]
    row.mul_(3)
    column = x.t()[0]
    column += 1
    return x.sum() + row.sum()


def view_of_mutated(x: torch.Tensor) -> Any:
    x.add_(1)
    return x[1:], x.view(-1), x.t()


def view_before_mutation(x: torch.Tensor) -> Any:
    v = x.view(4, 3)
    x.zero_()
    x[0] += 2
    return v, v + 1


def mutated_intermediate(x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    z = y.view(-1)
    y.mul_(2)
    z[3] = 100
    return y + z.view(3, 4)


def copy_into(x: torch.Tensor) -> None:
    x.copy_(x.flip(0).clone())


def out_argument(x: torch.Tensor) -> torch.Tensor:
    return torch.add(x, 2, out=x)


def with_masked_fill(x: torch.Tensor) -> torch.Tensor:
    x.masked_fill_(x > 3, 0.5).clamp_(max=2)
    return x


def augmented(x: torch.Tensor) -> torch.Tensor:
    x += 1
    x *= x
    x[:, 1] -= 3
    return x


def returned_twice(x: torch.Tensor) -> Any:
    y = x.relu_()
    return x, y


def swapped_order(x: torch.Tensor) -> torch.Tensor:
    a = x + 1
    x.add_(10)
    b = x + 1
    return a * b


def chunks(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=1)
    first.add_(second)
    return first - second


def fill_and_zero(x: torch.Tensor) -> torch.Tensor:
    x[:2].fill_(2)
    x[2:].zero_()
    return x.cumsum(0)


def index_put(x: torch.Tensor) -> torch.Tensor:
    x[torch.tensor([0, 2]), torch.tensor([1, 1])] = torch.tensor([9.0, 10.0])
    x.index_add_(0, torch.tensor([0]), torch.ones(1, 4))
    x.scatter_(1, torch.tensor([[0], [1], [2]]), 3.0)
    return x


ONE_INPUT: list[Callable[[torch.Tensor], Any]] = [
    add_in_place, set_item, through_view, view_of_mutated, view_before_mutation,
    mutated_intermediate, copy_into, out_argument, with_masked_fill, augmented, returned_twice,
    swapped_order, chunks, fill_and_zero, index_put,
]  # fmt: skip


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in tensors(v)]
    return []


def aliases(values: list[torch.Tensor], x: torch.Tensor) -> list[Any]:
    """How results lie in the argument's memory."""
    storage = x.untyped_storage().data_ptr()
    return [
        (v.storage_offset(), v.stride()) if v.untyped_storage().data_ptr() == storage else None
        for v in values
    ]


@pytest.mark.parametrize("fn", ONE_INPUT, ids=lambda f: f.__name__)
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "part"])
def test_one_argument(fn: Any, layout: str) -> None:
    def make() -> tuple[torch.Tensor, torch.Tensor]:
        if layout == "contiguous":
            whole = base()
            return whole, whole
        if layout == "transposed":
            whole = base().t().contiguous()
            return whole, whole.t()
        whole = torch.arange(40.0).reshape(5, 8)
        return whole, whole[1:4, 2:6]

    if layout != "contiguous" and fn in (
        view_of_mutated,
        view_before_mutation,
        mutated_intermediate,
    ):
        pytest.skip("its views need a contiguous tensor")
    jitted = fulmen.jit(fn)
    for _ in range(2):
        plain_whole, plain_x = make()
        whole, x = make()
        expected, got = tensors(fn(plain_x)), tensors(jitted(x))
        assert torch.equal(whole, plain_whole)
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b) and a.stride() == b.stride()
        assert aliases(got, whole) == aliases(expected, plain_whole)
        assert x._version > 0 or plain_x._version == 0


def same_argument(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x.add_(1)
    return x * y


def mutate_the_second(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    y.mul_(2)
    return x + y


def mutate_both(x: torch.Tensor, y: torch.Tensor) -> Any:
    a = x.sum()
    x.add_(1)
    y.mul_(2)
    return a, x + 1, y.sum()


OVERLAPS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "same": lambda w: (w, w),
    "same storage": lambda w: (w, w.view(12)),
    "shifted": lambda w: (w[:-1], w[1:]),
    "disjoint": lambda w: (w[:2], w[2:].expand(2, 4).contiguous()),
    "disjoint parts": lambda w: (w[:, :2], w[:, 2:]),
    "transposed": lambda w: (w[:, :3], w[:, :3].t()),
    "row": lambda w: (w, w[1]),
}


@pytest.mark.parametrize("fn", [same_argument, mutate_the_second, mutate_both])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_aliasing_arguments(fn: Any, overlap: str) -> None:
    if overlap == "same storage":
        fn = {same_argument: lambda x, y: (x.add_(1), y * 2)[1]}.get(
            fn, lambda x, y: y.mul_(2).sum() + x
        )
    jitted = fulmen.jit(fn)
    for _ in range(2):
        plain, mine = base(), base()
        expected = tensors(fn(*OVERLAPS[overlap](plain)))
        got = tensors(jitted(*OVERLAPS[overlap](mine)))
        assert torch.equal(mine, plain)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)


def test_aliasing_after_distinct_arguments_and_back() -> None:
    """A program compiled for distinct arguments is not used for overlapping ones."""
    jitted = fulmen.jit(mutate_both)
    for overlap in ("disjoint", "shifted", "disjoint parts", "same", "disjoint", "same"):
        plain, mine = base(), base()
        expected = tensors(mutate_both(*OVERLAPS[overlap](plain)))
        got = tensors(jitted(*OVERLAPS[overlap](mine)))
        assert torch.equal(mine, plain), overlap
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b), overlap


def test_in_place_under_autograd() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x * w
        y.add_(1)
        y[0].mul_(w[0])
        y.relu_()
        return y.sum()

    grads = []
    for f in (fn, fulmen.jit(fn)):
        x, w = base().requires_grad_(), (base() / 10).requires_grad_()
        f(x, w).backward()
        grads.append((x.grad, w.grad))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_mutated_argument_with_history() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> None:
        x.mul_(w)

    grads = []
    for f in (fn, fulmen.jit(fn)):
        leaf, w = base().requires_grad_(), base().requires_grad_()
        x = leaf * 2
        f(x, w)
        x.sum().backward()
        grads.append((leaf.grad, w.grad))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_in_place_on_a_leaf_is_refused() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)

    for f in (fn, fulmen.jit(fn)):
        x = base().requires_grad_()
        with pytest.raises(RuntimeError, match="leaf"):
            f(x)
        assert torch.equal(x, base())
        with torch.no_grad():
            f(x)
        assert torch.equal(x, base() + 1)


def test_saved_value_overwritten() -> None:
    """Eager refuses the backward; a functionalized program may give the right gradient."""

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x.exp()
        z = y.sin()
        y.add_(1)
        return z.sum() + y.sum()

    x = base().requires_grad_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        fn(x).backward()
    try:
        fulmen.jit(fn)(x).backward()
    except RuntimeError as e:
        assert "modified by an inplace operation" in str(e)
    else:
        y = base().exp()
        torch.testing.assert_close(x.grad, y.cos() * y + y)


def test_buffer_updates() -> None:
    class Counter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("history", torch.zeros(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            self.history[:2] = x[:2]
            self.history = self.history * 2
            return x * self.count

    net = Counter()
    plain = copy.deepcopy(net)
    jitted = fulmen.jit(net)
    for _ in range(3):
        assert torch.equal(jitted(base()[0]), plain(base()[0]))
        assert torch.equal(net.count, plain.count)
        assert torch.equal(net.history, plain.history)


def test_nothing_is_changed_that_eager_leaves_alone() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = x.clone()
        z.add_(y)
        return z

    x, y = base(), base()
    fulmen.jit(fn)(x, y)
    assert x._version == 0 and y._version == 0
    assert torch.equal(x, base()) and torch.equal(y, base())


@pytest.mark.parametrize(
    "give",
    [
        lambda x: torch.einsum("ij->ji", x),
        torch.conj_physical,
        torch.positive,
        lambda x: torch.nn.functional.dropout(x, 0.5, training=False),
        lambda x: x.contiguous(),
        lambda x: x.to(torch.float32),
        lambda x: x.sum_to_size(3, 4),
        lambda x: x.expand(3, 4),
    ],
)
def test_operations_that_give_their_argument(give: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """What follows them must not be written into it."""
    x = torch.randn(3, 4)
    before = x.clone()
    with torch.no_grad():
        got = fulmen.jit(lambda x: ((give(x) * 2 + 1).exp() - 3).abs())(x)
    assert torch.equal(x, before)
    assert torch.equal(got, ((give(x) * 2 + 1).exp() - 3).abs())


def read_a_view_of_what_got_a_graph(a, b):
    x = a * 2
    view, detached = x.view(-1), x.detach()
    x.mul_(b)
    return view * 2, x + 1, detached * 3, view.view(a.shape).exp()


def read_the_base_of_what_got_a_graph(a, b):
    x = a * 2
    x[0].mul_(b[0])
    return x.sin(), x[1] * 2, x.detach() * 2


@pytest.mark.parametrize(
    "function", [read_a_view_of_what_got_a_graph, read_the_base_of_what_got_a_graph]
)
def test_a_write_gives_other_views_a_graph(function: Any) -> None:
    a = torch.randn(2, 3, dtype=torch.float64)
    b = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    twin = b.detach().clone().requires_grad_()
    f = fulmen.jit(function)
    for _ in range(2):
        got, expected = f(a, b), function(a, twin)
        assert [t.requires_grad for t in got] == [t.requires_grad for t in expected]
        for x, y in zip(got, expected, strict=True):
            assert torch.equal(x, y)
        sum(t.sum() for t in got).backward()
        sum(t.sum() for t in expected).backward()
    assert torch.equal(b.grad, twin.grad)
