"""What a program can't hold is done at each call, as in eager, or refused where the user asks."""

from __future__ import annotations

import array
import bisect
import collections
import contextlib
import contextvars
import ctypes
import datetime
import decimal
import gc
import heapq
import io
import itertools
import logging
import os
import random
import sys
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fulmen

X = torch.ones(2)


class Box:
    value = 0


# State outside of the functions. `advance` changes it between two calls.
box = Box()
weak_box = weakref.ref(box)
context: contextvars.ContextVar[int] = contextvars.ContextVar("context", default=0)
local = threading.local()
rng, numpy_rng = random.Random(0), np.random.default_rng(0)
counter, numbers = itertools.count(), (i for i in range(100))
deque: collections.deque[int] = collections.deque()
numpy_array, byte_array, int_array = np.zeros(1), bytearray(1), array.array("i", [0])
items, table = [1], {"a": 1}
buffer = io.StringIO()
file = Path(os.devnull)


def reset(tmp: Path) -> None:
    global counter, numbers, file
    file = tmp / "number"
    random.seed(1)
    rng.seed(1)
    np.random.seed(1)
    numpy_rng.bit_generator.state = np.random.default_rng(1).bit_generator.state
    counter, numbers = itertools.count(), (i for i in range(100))
    deque.clear()
    items[:] = [1]
    table.clear()
    table["a"] = 1
    buffer.seek(0)
    buffer.truncate()
    advance(0)


def advance(i: int) -> None:
    box.value = local.value = i
    context.set(i)
    numpy_array[0] = byte_array[0] = int_array[0] = i
    file.write_text("1" * (i + 1))
    os.environ["EDGES_TEST"] = str(i)
    decimal.getcontext().prec = 20 + i
    deque.append(i)


def read_file(x: torch.Tensor) -> Any:
    with open(file) as f:
        return x * int(f.read())


def append_to_file(x: torch.Tensor) -> Any:
    with file.open("a") as f:
        f.write("1")
    return x, file.read_text()


def shuffled(x: torch.Tensor) -> Any:
    values = list(range(9))
    random.shuffle(values)
    return x, values


def pushed(x: torch.Tensor) -> Any:
    heapq.heappush(items, 3)
    bisect.insort(items, 2)
    return x * len(items)


def swapped(x: torch.Tensor) -> Any:
    import operator

    operator.setitem(table, "a", table["a"] + 1)
    return x * table["a"]


def written_under_equal_keys(x: torch.Tensor) -> Any:
    table["-".join("ab")] = table.get("-".join("ab"), 0) + 1  # type: ignore[index]
    return x * table["a-b"]


def grown(x: torch.Tensor) -> Any:
    deque.append(1)
    numpy_array[0] += 1
    byte_array[0] += 1
    return x * len(deque), float(numpy_array[0]), byte_array[0]


def set_environment(x: torch.Tensor) -> Any:
    os.environ["EDGES_TEST"] = os.environ["EDGES_TEST"] + "1"
    return x * int(os.environ["EDGES_TEST"])


def warned(x: torch.Tensor) -> Any:
    warnings.warn("careful", stacklevel=1)
    warnings.warn(DeprecationWarning("old"), stacklevel=2)
    return x + 1


def warned_inside(x: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("unseen", stacklevel=1)
    return x + 1


logger = logging.getLogger("test_sharp_edges")
LIBC = ctypes.CDLL(None)


def logged(x: torch.Tensor) -> Any:
    logger.warning("two %d %s", 2, "words")
    logger.debug("off")
    logging.error("root")
    logger.log(logging.CRITICAL, "log")
    return x + 1


EDGES: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x * random.random(),
    lambda x: x * rng.gauss(0, 1),
    lambda x: x * np.random.lognormal(),
    lambda x: x * float(numpy_rng.standard_gamma(2.0)),
    lambda x: x * next(counter),
    lambda x: x * next(numbers),
    lambda x: x * sum(itertools.islice(counter, 2)),
    lambda x: x * context.get(),
    lambda x: x * decimal.getcontext().prec,
    lambda x: x * len(deque),
    lambda x: x * deque[-1],
    lambda x: x * float(numpy_array[0]),
    lambda x: x * float(numpy_array.sum()),
    lambda x: x * float((numpy_array + 1)[0]),
    lambda x: x * byte_array[0],
    lambda x: x * int_array[0],
    lambda x: x * file.exists() * os.stat(file).st_size,
    lambda x: x * len(os.listdir(file.parent)),
    lambda x: (x, os.getcwd()),
    lambda x: (x, buffer.write("a"), buffer.getvalue()),
    lambda x: (x, print("to", "stdout")),
    lambda x: (x, print("to stderr", file=sys.stderr)),
    lambda x: (x, sys.stdout.write("written")),
    lambda x: (x, torch.initial_seed()),
    lambda x: (x, torch.get_num_threads()),
    read_file,
    append_to_file,
    shuffled,
    grown,
    set_environment,
    warned_inside,
]
FOLLOWED: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x * box.value,
    lambda x: x * weak_box().value,  # type: ignore[union-attr]
    lambda x: x * local.value,
    lambda x: x * int(os.environ["EDGES_TEST"]),
    lambda x: x * int(os.getenv("EDGES_TEST", "0")),
    pushed,
    swapped,
    written_under_equal_keys,
]
MESSAGES: list[Callable[[torch.Tensor], Any]] = [warned, logged]


def record(f: Callable[..., Any], tmp: Path) -> list[Any]:
    """Results, and what four calls print, log and warn of."""
    reset(tmp)
    seen = []
    for i in range(4):
        advance(i)
        out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s %(lineno)d %(funcName)s"))
        logging.root.addHandler(handler)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(record=True) as caught,
            ):
                warnings.simplefilter("always")
                result = f(X)
        finally:
            logging.root.removeHandler(handler)
        messages = [(w.category, str(w.message), w.lineno) for w in caught]
        seen.append((str(result), out.getvalue(), err.getvalue(), log.getvalue(), messages))
    return seen


@pytest.mark.parametrize("f", EDGES)
def test_edges_are_left_to_eager(f: Callable[..., Any], tmp_path: Path) -> None:
    expected = record(f, tmp_path)
    jitted = fulmen.jit(f)
    assert record(jitted, tmp_path) == expected
    stats = fulmen.stats(jitted)
    assert stats.cache_hits == 0
    assert "test_sharp_edges.py:" in stats.splits["the whole function"]


@pytest.mark.parametrize("f", FOLLOWED)
def test_what_looks_like_an_edge_and_is_followed(f: Callable[..., Any], tmp_path: Path) -> None:
    expected = record(f, tmp_path)
    jitted = fulmen.jit(f, sharp_edges="error")
    assert record(jitted, tmp_path) == expected
    assert fulmen.stats(jitted).splits == {}


@pytest.mark.parametrize("f", MESSAGES)
def test_messages_are_given_at_each_call(f: Callable[..., Any], tmp_path: Path) -> None:
    expected = record(f, tmp_path)
    assert any(seen[3] or seen[4] for seen in expected)
    jitted = fulmen.jit(f, sharp_edges="error")
    assert record(jitted, tmp_path) == expected
    stats = fulmen.stats(jitted)
    assert stats.splits == {} and stats.cache_hits == 3


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x, time.time_ns()),
        lambda x: (x, time.perf_counter_ns()),
        lambda x: (x, time.strftime("%s")),
        lambda x: (x, datetime.datetime.now()),
        lambda x: (x, datetime.date.today()),
        lambda x: (x, uuid.uuid1()),
        lambda x: (x, uuid.uuid4()),
        lambda x: (x, os.urandom(8)),
        lambda x: (x, random.SystemRandom().random()),
        lambda x: (x, os.getpid()),
        lambda x: (x, threading.get_ident()),
        lambda x: (x, gc.get_count()),
        lambda x: (x, sys.getrecursionlimit()),
        lambda x: (x, LIBC.clock()),
    ],
)
def test_what_no_two_calls_share_is_never_in_a_program(f: Callable[..., Any]) -> None:
    jitted = fulmen.jit(f)
    for _ in range(2):
        jitted(X)
    stats = fulmen.stats(jitted)
    assert stats.cache_hits == 0 and "the whole function" in stats.splits
    with pytest.raises(fulmen.SharpEdgeError):
        fulmen.jit(f, sharp_edges="error")(X)


def test_a_level_that_is_turned_on_later(caplog: pytest.LogCaptureFixture) -> None:
    jitted = fulmen.jit(logged)
    with caplog.at_level(logging.ERROR):
        jitted(X)
        assert "two 2 words" not in caplog.text
    with caplog.at_level(logging.DEBUG):
        jitted(X)
        assert "two 2 words" in caplog.text and "off" in caplog.text
    assert fulmen.stats(jitted).cache_hits == 1


def test_messages_about_tensors(caplog: pytest.LogCaptureFixture) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        logger.info("mean %s", x.mean())
        return x + 1

    with caplog.at_level(logging.INFO, logger=logger.name):
        on = fulmen.jit(f)
        for i in range(2):
            on(X * i)
        assert caplog.messages == ["mean tensor(0.)", "mean tensor(1.)"]
    assert "the whole function" in fulmen.stats(on).splits
    off = fulmen.jit(f)
    with caplog.at_level(logging.ERROR, logger=logger.name):
        off(X)
    assert fulmen.stats(off).splits == {}
    assert any("a message of logging, off when" in n for n in fulmen.stats(off).notes)


def test_a_warning_that_is_an_error() -> None:
    jitted = fulmen.jit(warned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jitted(X)
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="careful"):
            jitted(X)


def noisy(x: torch.Tensor) -> torch.Tensor:
    y = x + random.random()
    return y * 2


LINE = noisy.__code__.co_firstlineno + 1


def test_warn() -> None:
    jitted = fulmen.jit(noisy, sharp_edges="warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        random.seed(3)
        results = [jitted(X) for _ in range(3)]
    random.seed(3)
    assert all(torch.equal(r, noisy(X)) for r in results)
    assert len(caught) == 1  # once for each place
    warning = caught[0]
    assert warning.category is fulmen.SharpEdgeWarning
    assert (warning.filename, warning.lineno) == (__file__, LINE)
    assert str(warning.message) == (
        "eager PyTorch runs this call: a trace can't express random.Random.random()"
        f"  [test_sharp_edges.py:{LINE} in noisy]; draw random numbers with torch, or pass them in "
        "as arguments"
    )


def test_error_leaves_everything_as_it_was() -> None:
    log: list[int] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        log.append(1)
        x.add_(1)
        return noisy(x)

    x = X.clone()
    state = random.getstate()
    jitted = fulmen.jit(f, sharp_edges="error")
    for _ in range(2):
        with pytest.raises(fulmen.SharpEdgeError) as info:
            jitted(x)
        assert isinstance(info.value, fulmen.UserError) and info.value.id == "sharp-edge"
        assert f"[test_sharp_edges.py:{LINE} in noisy]; draw random numbers" in str(info.value)
    assert log == [] and torch.equal(x, X) and random.getstate() == state


def test_no_edge_no_complaint() -> None:
    jitted = fulmen.jit(lambda x: x.relu() * table["a"], sharp_edges="error")
    assert torch.equal(jitted(X), X * table["a"])


def test_arrays_that_operations_of_torch_read() -> None:
    values = np.ones(2, dtype=np.float32)
    jitted = fulmen.jit(lambda x: x + torch.tensor(values))
    for i in range(3):
        values[0] = i
        assert torch.equal(jitted(X), X + torch.tensor(values))
    values = np.zeros(2, dtype=np.float32)
    assert torch.equal(jitted(X), X)
    given = fulmen.jit(lambda x, a: x + torch.tensor(a))
    for i in range(3):
        array_ = np.full(2, i, dtype=np.float32)
        assert torch.equal(given(X, array_), X + i)


def test_versions_of_tensors() -> None:
    x = torch.zeros(2)
    jitted = fulmen.jit(lambda: (x + 1, x._version))
    for i in range(3):
        assert jitted()[1] == i
        x.add_(1)


def test_a_refused_call_is_not_followed_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    followed = []

    def fn(x: torch.Tensor, n: int) -> torch.Tensor:
        if box.value < 5:
            print("printed")
        return x * n

    jitted = fulmen.jit(fn)
    state = jitted._fulmen._fulmen_state
    acquire = state._acquire
    state._acquire = lambda *args: followed.append(1) or acquire(*args)
    box.value = 0
    for _ in range(5):
        assert torch.equal(jitted(X, 2), X * 2)
    assert capsys.readouterr().out == "printed\n" * 5
    assert len(followed) == 2
    stats = fulmen.stats(jitted)
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (5, 0, 0)
    assert "print" in stats.splits["the whole function"]
    box.value = 5  # what the refused call read is another: it compiles
    for _ in range(3):
        assert torch.equal(jitted(X, 2), X * 2)
    assert capsys.readouterr().out == "" and len(followed) == 3
    stats = fulmen.stats(jitted)
    assert (stats.cache_hits, stats.cache_misses, stats.recompiles) == (2, 1, [])
    box.value = 0
    assert torch.equal(jitted(X, 2), X * 2) and torch.equal(jitted(X.double(), 2), X * 2)
    assert capsys.readouterr().out == "printed\n" * 2
    for n in range(30):  # each of these is another call; few of them are kept
        assert torch.equal(jitted(X, n), X * n)
    assert state._num_remembered <= 8


def test_sharp_edges_are_met_at_each_call() -> None:
    jitted = fulmen.jit(lambda x: x + random.random(), sharp_edges="error")
    for _ in range(4):
        with pytest.raises(fulmen.SharpEdgeError):
            jitted(X)
