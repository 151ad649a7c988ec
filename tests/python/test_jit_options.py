"""The options of fulmen.jit: cache modes, validation, the log of recompilations."""

from __future__ import annotations

import copy
import enum
import logging
import math
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fulmen

X = torch.arange(6.0).reshape(2, 3) - 2
ONE = 1
SYMBOLIC = fulmen.CACHE.SYMBOLIC_VALUES


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def check(f: Callable[..., Any], calls: list[tuple[Any, ...]], programs: int) -> Any:
    """Each call as in eager; the number of programs that it takes."""
    jitted = fulmen.jit(f, cache=SYMBOLIC)
    for args in calls:
        assert same(jitted(*args), f(*args)), args
    stats = fulmen.stats(jitted)
    assert stats.splits == {}
    assert stats.cache_misses == programs, (stats.recompiles, stats.specialized)
    return stats


# symbolic values


@pytest.mark.parametrize(
    "f",
    [
        lambda x, a: x * a,
        lambda x, a: a - x,
        lambda x, a: a / (x + 10),
        lambda x, a: torch.add(x, x, alpha=a),
        lambda x, a: x.clamp(min=-a, max=a),
        lambda x, a: x.masked_fill(x > 0, a),
        lambda x, a: torch.where(x > a, x, -x),
        lambda x, a: x**a,
        lambda x, a: F.relu(x + (a * 2 - 1) / 3),
        lambda x, a: x + abs(-a) + (+a) + a**2 + a % 3 + a // 2,
        lambda x, a: x * math.sqrt(a) + math.floor(a) + float(a) + int(a),
        lambda x, a: (x * a, a, [a + 1, {"b": a * 0.5}]),
        lambda x, a: x * max(a, 1) * sum([a, a]),
        lambda x, a: [x * v for v in (a, a + 1)],
    ],
)
def test_numbers_stay_open(f: Callable[..., Any]) -> None:
    stats = check(f, [(X, 2), (X, 3), (X, 4.5), (X, 5.5), (X, 7)], programs=2)  # int and float
    assert stats.specialized == []


def test_the_first_example() -> None:
    def f(x: torch.Tensor, a: float) -> torch.Tensor:
        return x * a + (a + 1)

    jitted = fulmen.jit(f, cache="symbolic values")
    for a in (2.0, 3.0, 4.5, -0.0, math.inf):
        assert same(jitted(X, a), f(X, a))
    assert math.isnan(jitted(X, math.nan)[0, 0])
    assert fulmen.stats(jitted).cache_misses == 1
    trace = str(fulmen.last_traces(jitted)[0])
    assert "def computation(x, a, a_1)" in trace and "# a: float" in trace
    constant = fulmen.jit(f)
    for a in (2.0, 3.0, 4.5):
        constant(X, a)
    assert fulmen.stats(constant).cache_misses == 3


def test_conditions_guard_their_answer() -> None:
    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        if n > 3:
            return x + n
        return x * n if n else x

    stats = check(f, [(X, n) for n in (1, 2, 3, 4, 5, 0, 9, -2)], programs=3)
    assert stats.specialized == [] and "(n > 3) is False" in stats.recompiles


@pytest.mark.parametrize(
    "f",
    [
        lambda x, n: x.repeat(n, 1),
        lambda x, n: x.reshape(-1)[:n],
        lambda x, n: torch.zeros(n) + 1,
        lambda x, n: x.sum(n - 1),
        lambda x, n: [x + i for i in range(n)],
        lambda x, n: x * {1: 2.0, 2: 3.0}[n],
        lambda x, n: x * [1.0, 2.0, 3.0][n],
        lambda x, n: (x, f"{n} and {n:03d}", str(n), hash(n)),
        lambda x, n: (x, n.bit_length(), n.real),
        lambda x, n: (x, isinstance(n, int), type(n), operator.index(n)),
        lambda x, n: x * int.__add__(n, 1),
        lambda x, n: x.view((n, -1)),
        lambda x, n: torch.tensor([n, 1.0]) + x.sum(),
        lambda x, n: (x, n << 70),
    ],
)
def test_what_needs_the_value_says_so(f: Callable[..., Any]) -> None:
    stats = check(f, [(X, 1), (X, 2), (X, 1)], programs=2)
    assert len(stats.specialized) >= 2
    assert any("== 1  [test_jit_options.py" in s or "all numbers" in s for s in stats.specialized)


@pytest.mark.parametrize(
    "f", [lambda x, n: (x * n, n is ONE), lambda x, n: (x * n, id(n) == id(ONE))]
)
def test_identity_needs_known_numbers(f: Callable[..., Any]) -> None:
    stats = check(f, [(X, 1), (X, 2), (X, 1)], programs=2)
    assert all("telling numbers apart by identity" in s for s in stats.specialized)
    stats = check(lambda x, n: (x * n, n is None), [(X, 1), (X, 2)], programs=1)
    assert stats.specialized == []


def test_a_type_is_not_a_value() -> None:
    stats = check(lambda x, n: (x * n, type(n), isinstance(n, float)), [(X, 1), (X, 2)], programs=1)
    assert stats.specialized == []


def test_exceptions_are_eagers() -> None:
    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        try:
            return x * (6 // n)
        except ZeroDivisionError:
            return x - 1

    check(f, [(X, 2), (X, 3), (X, 0), (X, 1), (X, 0)], programs=2)
    jitted = fulmen.jit(lambda x, n: x * (1 / n), cache=SYMBOLIC)
    jitted(X, 2)
    with pytest.raises(ZeroDivisionError):
        jitted(X, 0)
    assert torch.equal(jitted(X, 4), X * 0.25)


def test_integers_beyond_64_bits() -> None:
    def f(x: torch.Tensor, n: int) -> Any:
        return x + 1, n * n

    check(f, [(X, 2**20), (X, 2**31), (X, 3)], programs=1)
    check(f, [(X, 3), (X, 2**40), (X, 2**70), (X, 5)], programs=1)
    g = fulmen.jit(lambda x, n: x * (n * n), cache=SYMBOLIC)
    g(X, 3)
    with pytest.raises(OverflowError):
        X * 2**80
    with pytest.raises(OverflowError):
        g(X, 2**40)
    assert torch.equal(g(X, 4), X * 16)


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.calls = 0
        self.config = {"scale": 2.0}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.linear(x) * self.calls * self.config["scale"]


def test_attributes_that_change_at_each_call() -> None:
    eager = Counted()
    module = copy.deepcopy(eager)
    jitted = fulmen.jit(module, cache=SYMBOLIC)
    for scale in (1.0, 2.0, 3.5):
        eager.config["scale"] = module.config["scale"] = scale
        assert torch.equal(jitted(X), eager(X))
        assert module.calls == eager.calls and type(module.calls) is int
    assert fulmen.stats(jitted).cache_misses == 1
    assert fulmen.stats(jitted).specialized == []


SCALE = 2.0


def test_globals_and_closures() -> None:
    global SCALE
    shift = 1

    def f(x: torch.Tensor) -> torch.Tensor:
        return x * SCALE + shift

    jitted = fulmen.jit(f, cache=SYMBOLIC)
    for SCALE, shift in ((2.0, 1), (3.0, 2), (4.0, 5)):  # noqa: B007
        assert torch.equal(jitted(X), f(X))
    assert fulmen.stats(jitted).cache_misses == 1


def test_numbers_and_questions_of_tensors() -> None:
    def f(x: torch.Tensor, a: float) -> torch.Tensor:
        y = x * a
        if y.sum() > 0:
            return y + a * 2
        return y - a

    check(f, [(X + 3, 1.0), (X + 3, 2.0), (X - 9, 3.0), (X - 9, 4.0), (X + 3, 5.0)], programs=2)


def test_numbers_and_gradients() -> None:
    def f(w: torch.Tensor, lr: float) -> torch.Tensor:
        return (w * lr).sum() * (lr + 1)

    jitted = fulmen.jit(f, cache=SYMBOLIC)
    for lr in (0.5, 0.25, 2.0):
        w, v = (X.clone().requires_grad_() for _ in range(2))
        jitted(w, lr).backward()
        f(v, lr).backward()
        torch.testing.assert_close(w.grad, v.grad)
    assert fulmen.stats(jitted).cache_misses == 1


@pytest.mark.parametrize(
    "f",
    [
        lambda x, a: x**a,
        lambda x, a: a**x,
        lambda x, a: a / x - x / a,
        lambda x, a: torch.add(x, x * x, alpha=a),
        lambda x, a: x.clamp(min=-a, max=a),
        lambda x, a: torch.lerp(x, x * x, a),
        lambda x, a: torch.addcmul(x, x, x, value=a),
        lambda x, a: torch.addmm(x, x, x, alpha=a, beta=a + 1),
        lambda x, a: F.elu(F.leaky_relu(x, a), a),
        lambda x, a: F.softplus(x, beta=a, threshold=a * 10),
        lambda x, a: F.threshold(x, a, a * 2) + x % a,
        lambda x, a: (x * 1).mul_(a).add_(x, alpha=a),
    ],
)
def test_gradients_of_operations_with_numbers(f: Callable[..., Any]) -> None:
    jitted = fulmen.jit(f, cache=SYMBOLIC)
    for a in (0.5, 0.75, 2.0, 2, 3):
        x, y = ((torch.arange(1.0, 10.0).reshape(3, 3) / 5).requires_grad_() for _ in range(2))
        expected, result = f(x, a), jitted(y, a)
        expected.sum().backward()
        result.sum().backward()
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(y.grad, x.grad)
    assert fulmen.stats(jitted).cache_misses == 2 and fulmen.stats(jitted).splits == {}


def test_numbers_in_containers_and_stores() -> None:
    box: dict[str, Any] = {}

    def f(x: torch.Tensor, cfg: dict[str, Any]) -> Any:
        box["last"] = cfg["a"] * 2
        return x * cfg["a"], box["last"]

    jitted = fulmen.jit(f, cache=SYMBOLIC)
    for a in (1.0, 2.0, 3.0):
        out, last = jitted(X, {"a": a})
        assert torch.equal(out, X * a) and last == box["last"] == 2 * a
        assert type(box["last"]) is float
    assert fulmen.stats(jitted).cache_misses == 1


# same input


def test_same_input_looks_at_nothing_but_the_tensors() -> None:
    module = Counted()
    jitted = fulmen.jit(lambda x, a: module.linear(x) * a, cache="same input")
    expected = jitted(X, 2.0)
    assert torch.equal(jitted(X, 3.0), expected)  # the promise is broken, and nobody looks
    with torch.no_grad():
        module.linear.weight.zero_()
    assert not torch.equal(jitted(X, 2.0), expected)  # parameters are inputs
    stats = fulmen.stats(jitted)
    assert stats.cache_misses == 1 and stats.cache_hits == 2
    for args in ((X.double(), 2.0), (X[:1], 2.0), (X,), (3, 2.0)):
        with pytest.raises(ValueError, match="cache='same input' promises") as info:
            jitted(*args)
        assert info.value.id == "same-input"
    assert torch.equal(jitted(X + 1, 2.0), module.linear(X + 1) * 2.0)


def test_same_input_and_values_that_are_asked_for() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    jitted = fulmen.jit(f, cache="same input")
    for _ in range(2):
        for x in (X + 3, X - 9):
            assert torch.equal(jitted(x), f(x))
    assert fulmen.stats(jitted).cache_misses == 2


def test_same_input_makes_its_writes() -> None:
    log: list[torch.Tensor] = []
    jitted = fulmen.jit(lambda x: log.append(x * 2), cache="same input")
    for _ in range(3):
        jitted(X)
    assert len(log) == 3


# no caching


def test_no_caching_traces_every_call() -> None:
    seen = []

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return x + 1 if x.sum() > 0 else x - 1

    jitted = fulmen.jit(f, cache="no caching")
    for x in (X, X + 9, X):
        assert torch.equal(jitted(x), x + 1 if x.sum() > 0 else x - 1)
    stats = fulmen.stats(jitted)
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (3, 0, 3)
    assert len(seen) == 3 and stats.recompiles == []
    assert len(fulmen.last_traces(jitted)) > 0


# validation


class Theirs(enum.Enum):
    SYMBOLIC_VALUES = enum.auto()


def test_members_of_another_enum() -> None:
    assert fulmen.CACHE("symbolic values") is fulmen.CACHE.SYMBOLIC_VALUES
    jitted: Any = fulmen.jit(lambda x, a: x * a, cache=Theirs.SYMBOLIC_VALUES)
    for a in (1, 2):
        jitted(X, a)
    assert fulmen.stats(jitted).cache_misses == 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"cach": "no caching"},
            TypeError,
            "jit(): got an unknown option 'cach'; did you mean 'cache'? expected one of "
            "transforms, executors, fullgraph, cache, sharp_edges",
        ),
        ({"zzz": 1}, TypeError, "jit(): got an unknown option 'zzz'; expected one of transforms"),
        (
            {"cache": "symbolic value"},
            ValueError,
            "jit(): got cache='symbolic value'; did you mean 'symbolic values'? expected one of "
            "'constant values', 'symbolic values', 'same input', 'no caching'",
        ),
        ({"cache": None}, ValueError, "jit(): got cache=None; expected one of"),
        (
            {"sharp_edges": "raise"},
            ValueError,
            "jit(): got sharp_edges='raise'; expected one of 'allow', 'warn', 'error'",
        ),
        ({"fullgraph": "yes"}, TypeError, "jit(): got fullgraph='yes'; expected True or False"),
        ({"transforms": fulmen.Transform()}, TypeError, "expected a list of fulmen.Transform"),
        ({"transforms": [nn.Linear]}, TypeError, "expected a list of fulmen.Transform"),
    ],
)
def test_options_are_checked(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as info:
        fulmen.jit(torch.relu, **options)
    assert text in str(info.value)
    assert isinstance(info.value, fulmen.UserError) and info.value.id == "jit-option"


def test_options_survive_copies() -> None:
    module = fulmen.jit(Counted(), cache="symbolic values", sharp_edges="warn")
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        for _ in range(3):
            other(X)
        assert fulmen.stats(other).cache_misses == 1


# statistics


def test_guards_are_counted() -> None:
    jitted = fulmen.jit(lambda x, n: x * n)
    assert fulmen.stats(jitted).guards == []
    jitted(X, 1)
    jitted(X, 2)
    counts = fulmen.stats(jitted).guards
    assert len(counts) == 2 and counts[0] == counts[1] > 0


def test_recompilations_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def scaled(x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n

    jitted = fulmen.jit(scaled)
    with caplog.at_level(logging.INFO, logger="fulmen.recompile"):
        jitted(X, 1)
        assert caplog.messages == []
        jitted(X, 2)
        jitted(X, 3)
    assert len(caplog.messages) == 2
    name = f"{scaled.__qualname__}"
    assert caplog.messages[0] == f"recompiling {name}: n == 1"
    assert caplog.messages[1] == f"recompiling {name}: n == 2; n == 1"


def test_log_lines_by_an_environment_variable() -> None:
    program = (
        "import torch, fulmen\n"
        "f = fulmen.jit(lambda x, n: x * n)\n"
        "f(torch.ones(1), 1); f(torch.ones(1), 2)\n"
        "fulmen.jit(lambda x: print(x))(torch.ones(1))\n"
    )
    lines = {}
    for wanted in ("", "recompile", "fallback"):
        environment = {**os.environ, "FULMEN_LOG": wanted}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        lines[wanted] = [
            line for line in done.stderr.decode().splitlines() if line.startswith("fulmen: ")
        ]
    assert lines[""] == []
    assert lines["recompile"] == ["fulmen: recompiling <lambda>: n == 1"]
    assert len(lines["fallback"]) == 1 and "can't express print()" in lines["fallback"][0]


def test_no_reference_is_kept_to_numbers() -> None:
    value = 12345.678
    jitted = fulmen.jit(lambda x, a: (x * a, a + 1), cache=SYMBOLIC)
    jitted(X, value)
    before = sys.getrefcount(value)
    for _ in range(50):
        jitted(X, value)
    assert sys.getrefcount(value) == before
