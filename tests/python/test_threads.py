"""Several threads compile and call at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

import fulmen


def run_together(work: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(work))

    def guarded(job: Callable[[], None]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]


def net() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 8)
    ).eval()


def check(model: Any, plain: Any, seed: int, shapes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    for i in range(15):
        x = torch.randn(shapes[i % len(shapes)], 8, generator=generator)
        assert torch.equal(model(x), plain(x))


def test_one_program_in_many_threads() -> None:
    plain = net()
    jitted = fulmen.jit(plain)
    jitted(torch.randn(4, 8))
    run_together([lambda s=s: check(jitted, plain, s, (4,)) for s in range(4)])
    assert fulmen.stats(jitted).cache_misses == 1


def test_first_calls_at_once() -> None:
    plain = net()
    jitted = fulmen.jit(plain)
    run_together([lambda s=s: check(jitted, plain, s, (2 + s % 2, 5)) for s in range(3)])


def test_two_functions_compile_at_once() -> None:
    work = []
    for i in range(3):
        plain = net()
        jitted = fulmen.jit(plain)
        work.append(lambda j=jitted, p=plain, i=i: check(j, p, i, (3, 4)))
    run_together(work)


def test_training_in_threads() -> None:
    def train() -> None:
        torch.manual_seed(0)
        plain = net()
        jitted = fulmen.jit(plain)
        x = torch.ones(3, 8)
        plain(x).sum().backward()
        expected = [p.grad.clone() for p in plain.parameters()]
        plain.zero_grad()
        jitted(x).sum().backward()
        for p, e in zip(plain.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, e)

    run_together([train] * 2)


def test_grad_mode_is_each_threads_own() -> None:
    jitted = fulmen.jit(lambda x: x * 2)
    x = torch.ones(3, requires_grad=True)

    def with_grad() -> None:
        for _ in range(20):
            assert jitted(x).requires_grad

    def without() -> None:
        with torch.no_grad():
            for _ in range(20):
                assert not jitted(x).requires_grad

    run_together([with_grad, without])


def test_tracing_in_threads() -> None:
    def work() -> None:
        for _ in range(20):
            trace = fulmen.trace(lambda x: torch.relu(x) + 1)(torch.ones(3))
            assert [b.symbol.name for b in trace.bound_symbols] == ["relu", "add"]

    run_together([work] * 3)
