"""fulmen.last_prologue: the guards as a Python function, executed against real arguments."""

from __future__ import annotations

import collections
import ctypes
import math
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fulmen

X = torch.arange(6.0).reshape(2, 3)
GLOBAL = 2.5
NAN = float("nan")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.config: dict[Any, Any] = {"a": 1, "b": [1, 2.5, "x"], 7: torch.float32}
        self.zero, self.mode, self.tags = 0.0, None, {"p", "q"}

    def forward(self, x: torch.Tensor, *, k: int = 1) -> torch.Tensor:
        y = self.linear(x) + self.zero
        if self.mode is None and "missing" not in self.config and "p" in self.tags:
            y = y.to(self.config[7]) * len(self.config["b"]) * k * GLOBAL
        for v in self.config["b"][:2]:
            y = y * v
        return F.relu(y) + math.pi * (NAN == NAN)


def prologue_of(jitted: Any) -> Callable[..., Any]:
    text = fulmen.last_prologue(jitted)
    scope = dict(text.constants)
    exec(compile(text, "<prologue>", "exec"), scope)
    return scope["prologue"]


def test_it_takes_the_call_and_returns_the_inputs() -> None:
    block = Block()
    jitted = fulmen.jit(block)
    jitted(X, k=3)
    text = fulmen.last_prologue(jitted)
    assert "def prologue(x, /, *, k):\n" in text
    for line in (
        "type(x) is Tensor",
        "k == 3 and type(k) is int",
        "fn.mode is None",
        "repr(fn.zero) == '0.0' and type(fn.zero) is float",
        "len(fn.config['b']) == 3",
        "'missing' not in fn.config",
        f"{__name__}.GLOBAL == 2.5 and type({__name__}.GLOBAL) is float",
        "x.dtype == torch.float32 and x.shape == (2, 3) and x.stride() == (3, 1)",
        "lookup(Block, 'forward') is Block_forward",
    ):
        assert f"  assert {line}\n" in text, text
    prologue = prologue_of(jitted)
    x, weight, bias = prologue(X, k=3)
    assert x is X and weight is block.linear.weight and bias is block.linear.bias
    assert isinstance(text, str) and fulmen.stats(jitted).cache_misses == 1


@contextmanager
def patched(target: Any, name: str, value: Any) -> Iterator[None]:
    old = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, old)


@contextmanager
def changed(table: dict[Any, Any], key: Any, value: Any) -> Iterator[None]:
    old = dict(table)
    table[key] = value
    try:
        yield
    finally:
        table.clear()
        table.update(old)


@contextmanager
def hooked(module: nn.Module) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *args: None)
    try:
        yield
    finally:
        handle.remove()


def other_forward(self: Any, x: torch.Tensor, *, k: int = 1) -> torch.Tensor:
    return x * k


MUTATIONS: dict[str, Callable[[Block], Any]] = {
    "an attribute": lambda m: patched(m, "zero", -0.0),
    "its type": lambda m: patched(m, "zero", 0),
    "None": lambda m: patched(m, "mode", 1),
    "a global": lambda m: changed(globals(), "GLOBAL", 3),
    "a global that hides a builtin": lambda m: changed(globals(), "len", max),
    "a global that is nan": lambda m: changed(globals(), "NAN", 1.0),
    "a key": lambda m: changed(m.config, "missing", 1),
    "an item": lambda m: changed(m.config, "b", [1, 3.5, "x"]),
    "a length": lambda m: changed(m.config, "b", [1, 2.5, "x", 1]),
    "a dtype": lambda m: changed(m.config, 7, torch.float64),
    "a set": lambda m: patched(m, "tags", {"p"}),
    "a method": lambda m: patched(Block, "forward", other_forward),
    "code": lambda m: patched(Block.forward, "__code__", other_forward.__code__),
    "defaults": lambda m: patched(Block.forward, "__kwdefaults__", {"k": 2}),
    "a hook": lambda m: hooked(m.linear),
    "requires_grad": lambda m: patched(m.linear.weight, "requires_grad", False),
    "a parameter's dtype": lambda m: patched(
        m.linear, "weight", nn.Parameter(torch.ones(3, 3, dtype=torch.float64))
    ),
    "no_grad": lambda m: torch.no_grad(),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_it_raises_where_a_guard_does_not_hold(name: str) -> None:
    block = Block()
    jitted = fulmen.jit(block)
    jitted(X, k=3)
    prologue = prologue_of(jitted)
    prologue(X, k=3)
    with MUTATIONS[name](block):
        with pytest.raises(Exception):  # noqa: B017 - an assertion, or what is not there
            prologue(X, k=3)
        assert jitted._fulmen.explain(X, k=3)  # the native guards say the same
    prologue(X, k=3)
    assert jitted._fulmen.explain(X, k=3) == []


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((X,), {"k": 4}),
        ((X,), {"k": 3.0}),
        ((X,), {"k": True}),
        ((X,), {}),
        ((), {"x": X, "k": 3}),
        ((X.double(),), {"k": 3}),
        ((X[:1],), {"k": 3}),
        ((X.t().contiguous().t(),), {"k": 3}),
        ((X.clone().requires_grad_(),), {"k": 3}),
        ((nn.Parameter(X),), {"k": 3}),
        ((None,), {"k": 3}),
    ],
)
def test_arguments_that_it_refuses(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    jitted = fulmen.jit(Block())
    jitted(X, k=3)
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        prologue_of(jitted)(*args, **kwargs)
    assert len(jitted._fulmen.explain(*args, **kwargs)) == 1


def test_functions_closures_and_numbers() -> None:
    shift, box = 1.0, [X, {"k": (1, 2)}]
    alive = weakref.ref(test_functions_closures_and_numbers)

    def f(x: torch.Tensor, n: int, *rest: Any) -> Any:
        assert alive() is not None
        return (x + shift + box[0] + box[1]["k"][0]) * math.sqrt(n * 2), rest

    jitted = fulmen.jit(f, cache="symbolic values")
    jitted(X, 2, 5, "r")
    prologue = prologue_of(jitted)
    inputs = prologue(X, 3, 5, "r")
    assert inputs[0] is X and [v for v in inputs if isinstance(v, float)] == [1.0, math.sqrt(6)]
    for bad in ((X, 3.0, 5, "r"), (X, 3, 5, "s"), (X, 3, 5), (X, 3, "5", "r")):
        with pytest.raises((AssertionError, TypeError)):
            prologue(*bad)
    shift = 2
    with pytest.raises(AssertionError):
        prologue(X, 3, 5, "r")


def test_contents_that_look_equal_and_are_not() -> None:
    class One:
        k = 1

    class Two:
        k = 2

    class Both(One):
        pass

    table: dict[str, Any] = {"z": 0j, "s": {1, 2}, "cut": slice(0, 1)}
    keys: dict[Any, int] = {1: 0}
    proxy, items = types.MappingProxyType(table), (ctypes.c_ubyte * 2)(1, 2)
    queue, box = collections.deque([1]), Both()
    seen = weakref.ref(box)

    def f(x: torch.Tensor) -> Any:
        both = seen()
        assert both is not None
        texts = f"{queue}", str(table["s"]), list(keys), bytes(items)
        return x[:, proxy["cut"]] * both.k + table["z"], texts

    def renew(key: str, value: Any) -> Callable[[], Any]:
        return lambda: table.update({key: value})

    changes: list[Callable[[], Any]] = [
        renew("z", complex(-0.0, 0.0)),
        renew("s", {True, 2}),
        renew("cut", slice(False, 1)),
        lambda: (keys.clear(), keys.update({True: 0})),
        lambda: queue.append(2),
        lambda: items.__setitem__(0, 7),
        lambda: setattr(Both, "__bases__", (Two,)),
    ]
    for change in changes:
        jitted = fulmen.jit(f, sharp_edges="error")
        jitted(X)
        prologue = prologue_of(jitted)
        assert prologue(X)[0] is X and jitted._fulmen.explain(X) == []
        change()
        with pytest.raises(AssertionError):
            prologue(X)
        assert jitted._fulmen.explain(X)
        expected, got = f(X), jitted(X)
        assert torch.equal(expected[0], got[0]) and expected[1] == got[1]


def test_storage_that_is_shared() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x + y

    jitted = fulmen.jit(f)
    a, b = X.clone(), X.clone()
    jitted(a, b)
    prologue = prologue_of(jitted)
    prologue(b, a)
    with pytest.raises(AssertionError):
        prologue(a, a)


def test_without_a_program() -> None:
    assert fulmen.last_prologue(fulmen.jit(torch.relu)) == ""
