"""Side effects of a jitted program happen at every call, as in eager."""

from __future__ import annotations

import collections
import io
import random
import time
from typing import Any

import numpy as np
import pytest
import torch

import fulmen

X = torch.arange(6.0).reshape(2, 3)
COUNT = 0


def test_attributes() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last: Any = None
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last = x + 1
            self.total = self.total + x.sum(0)
            return x * 2

    eager, net = Net(), Net()
    jitted = fulmen.jit(net)
    for k in range(3):
        torch.testing.assert_close(jitted(X + k), eager(X + k))
        torch.testing.assert_close(net.last, eager.last)
        torch.testing.assert_close(net.total, eager.total)
    assert fulmen.stats(jitted).splits == {}


def test_containers_and_globals() -> None:
    log: list[Any] = []
    table: dict[str, Any] = {"first": 1, "gone": 2}
    members = {1}

    def program(x: torch.Tensor) -> torch.Tensor:
        global COUNT
        COUNT = 7
        log.append(x * 2)
        table["y"] = x + 1
        table.pop("gone", None)
        members.add(5)
        return x

    jitted = fulmen.jit(program)
    for k in range(3):
        jitted(X + k)
        assert len(log) == k + 1
        torch.testing.assert_close(log[-1], (X + k) * 2)
        torch.testing.assert_close(table["y"], X + k + 1)
        assert list(table) == ["first", "y"] and members == {1, 5} and COUNT == 7


def test_nonlocal() -> None:
    calls = 0

    def program(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return x + calls

    jitted = fulmen.jit(program)
    for k in range(1, 4):
        torch.testing.assert_close(jitted(X), X + k)
        assert calls == k


def test_in_place_on_inputs_and_in_containers() -> None:
    def program(tensors: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        tensors[0].add_(x)
        tensors[1] = tensors[0] * 2
        return tensors[1]

    a = [torch.zeros(2, 3), None]
    first = a[0]
    jitted = fulmen.jit(program)
    for k in range(1, 4):
        out = jitted(a, X)
        torch.testing.assert_close(first, X * k)
        assert a[0] is first and a[1] is out
        torch.testing.assert_close(out, X * k * 2)


def test_a_failing_call_leaves_everything_as_eager_does() -> None:
    log: list[int] = []

    def program(x: torch.Tensor, fail: bool) -> torch.Tensor:
        log.append(1)
        if fail:
            raise KeyError("no such thing")
        return x + 1

    jitted = fulmen.jit(program)
    with pytest.raises(KeyError, match="no such thing") as caught:
        jitted(X, True)
    assert log == [1]
    frames = [f.name for f in caught.traceback]
    assert frames[-1] == "program"
    jitted(X, False)
    assert log == [1, 1]


def test_objects_made_by_the_program() -> None:
    class Box:
        def __init__(self, value: torch.Tensor) -> None:
            self.value = value
            self.again = self

        def double(self) -> torch.Tensor:
            return self.value * 2

    def program(x: torch.Tensor) -> Any:
        box = Box(x + 1)
        return box, [box, {"f": lambda: box.double()}]

    jitted = fulmen.jit(program)
    for k in range(2):
        box, (same, table) = jitted(X + k)
        assert type(box) is Box and box is same and box.again is box
        torch.testing.assert_close(table["f"](), (X + k + 1) * 2)
    assert jitted(X)[0] is not jitted(X)[0]


def test_conditions_on_values() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        if y.sum() > 0:
            y = y + 1
        else:
            y = y - 1
        for _ in range(int(x.max())):
            y = y * 2
        return y

    jitted = fulmen.jit(program)
    inputs = [X, -X, X + 1, -X - 1, X]
    for x in inputs:
        torch.testing.assert_close(jitted(x), program(x), rtol=0, atol=0)
    before = fulmen.stats(jitted)
    for x in inputs:
        torch.testing.assert_close(jitted(x), program(x), rtol=0, atol=0)
    after = fulmen.stats(jitted)
    assert after.cache_misses == before.cache_misses
    assert after.splits == {}


def test_item_and_writes_around_it() -> None:
    def program(x: torch.Tensor, acc: torch.Tensor) -> torch.Tensor:
        acc.add_(x)
        n = acc.sum().item()
        acc.mul_(2)
        return x + n

    eager, jitted_acc = torch.zeros(2, 3), torch.zeros(2, 3)
    jitted = fulmen.jit(program)
    for _ in range(3):
        torch.testing.assert_close(jitted(X, jitted_acc), program(X, eager))
        torch.testing.assert_close(jitted_acc, eager)


RANDOM = random.Random(1)
BUFFER = io.StringIO()
QUEUE = collections.deque(range(100))
RNG = np.random.default_rng(1)


@pytest.mark.parametrize(
    "other_at_each_call",
    [
        random.random,
        lambda: random.randint(0, 1 << 30),
        RANDOM.random,
        lambda: RANDOM.gauss(0, 1),
        time.perf_counter,
        lambda: BUFFER.write("a") and BUFFER.tell(),
        QUEUE.popleft,
        lambda: float(np.random.rand()),
        RNG.random,
    ],
)
def test_what_no_guard_sees_is_asked_at_every_call(other_at_each_call: Any) -> None:
    jitted = fulmen.jit(lambda x: (x, other_at_each_call()))
    values = [jitted(torch.ones(2))[1] for _ in range(3)]
    assert len(set(values)) == 3
    assert "whole function" in next(iter(fulmen.stats(jitted).splits))


def test_print_happens_at_every_call(capsys: pytest.CaptureFixture[str]) -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        print("called")
        return x + 1

    jitted = fulmen.jit(fn)
    for _ in range(3):
        jitted(torch.ones(2))
    assert capsys.readouterr().out == "called\n" * 3
    with pytest.raises(fulmen.errors.UserNotImplementedError, match="print"):
        fulmen.jit(fn, fullgraph=True)(torch.ones(2))


def test_an_iterator_from_outside_goes_on() -> None:
    def numbers() -> Any:
        yield from range(10)

    for make in (lambda: iter(range(10)), numbers, lambda: iter([0, 1, 2, 3, 4])):
        for step in (
            lambda it: next(it),
            lambda it: next(n for n, _ in zip(it, (0,), strict=False)),
        ):
            eager, mine = make(), make()
            jitted = fulmen.jit(lambda x, it=mine, step=step: x + step(it))
            for _ in range(3):
                assert torch.equal(jitted(X), X + step(eager))


class Counts(collections.defaultdict):  # type: ignore[type-arg]
    """Like one of collections, by a class of the user's."""


@pytest.mark.parametrize("make", [collections.defaultdict, Counts])
def test_what_a_defaultdict_makes_is_stored(make: Any) -> None:
    keys = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]

    def step(state: Any, x: torch.Tensor) -> torch.Tensor:
        COUNTED.add_(1)
        for k in keys:
            own = state[k]
            if "sum" not in own:
                own["sum"] = torch.zeros_like(k)
            own["sum"].mul_(0.5).add_(x.sum(0))
        return x * len(state)

    eager, mine = make(dict), make(dict)
    jitted = fulmen.jit(step)
    for k in range(4):
        COUNTED.zero_()
        assert torch.equal(jitted(mine, X + k), step(eager, X + k)) and COUNTED == 2
        assert [k is j for k, j in zip(mine, keys, strict=True)] == [True] * 3
        assert all(torch.equal(mine[k]["sum"], eager[k]["sum"]) for k in keys)
        if k == 1:
            eager.clear()
            mine.clear()
    assert fulmen.stats(jitted).cache_misses == 2 and not fulmen.stats(jitted).splits


def test_a_defaultdict_without_a_factory_raises() -> None:
    jitted = fulmen.jit(lambda d, x: x * d["a"])
    with pytest.raises(KeyError, match="a"):
        jitted(collections.defaultdict(None), X)


COUNTED = torch.zeros(())
