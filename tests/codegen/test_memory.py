"""Recycled memory: large results of programs take blocks of dead tensors, never those in use."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

import fulmen

LARGE = 300_000  # elements: more than a block's least size


def compiled(fn: Any) -> Any:
    """With generated kernels: the programs that recycle."""
    return fulmen.jit(fn, executors=["fusion"])


@pytest.fixture(autouse=True)
def nothing_kept():
    fulmen.empty_cache()
    yield
    fulmen.empty_cache()


def test_blocks_are_used_again() -> None:
    f = compiled(lambda x: (x * 2).exp())
    x = torch.zeros(LARGE)
    f(x)
    before = fulmen.memory_stats()
    address = f(x).data_ptr()
    assert f(x).data_ptr() == address
    after = fulmen.memory_stats()
    assert after.fresh == before.fresh and after.recycled > before.recycled


def test_memory_in_use_is_not_given_out() -> None:
    f = compiled(lambda x: (x + 1).abs())
    x = torch.zeros(LARGE)
    results = [f(x) for _ in range(5)]
    views = [r[7:] for r in results]
    storages = {r.untyped_storage().data_ptr() for r in results}
    assert len(storages) == 5
    del results
    assert not {f(x).untyped_storage().data_ptr() for _ in range(3)} & storages
    assert all(bool((v == 1).all()) for v in views)


def test_the_cache_is_emptied() -> None:
    f = compiled(lambda x: (x + 1).abs())
    kept = f(torch.zeros(LARGE))
    f(torch.zeros(LARGE))
    assert fulmen.memory_stats().kept > 0
    fulmen.empty_cache()
    stats = fulmen.memory_stats()
    assert stats.kept == 0 and stats.used >= 4 * LARGE
    assert bool((kept == 1).all())


def test_what_is_kept_is_bounded() -> None:
    f = compiled(lambda x: (x * 3).abs())
    most = 0
    for n in range(1, 12):
        f(torch.zeros(n * 2_000_000))
        most = max(most, fulmen.memory_stats().kept)
    assert most < 300e6, "blocks of many sizes were all kept"


def test_results_die_in_other_threads() -> None:
    f = compiled(lambda x: (x + 1) * 2)
    x = torch.zeros(LARGE)
    wrong: list[float] = []

    def calls() -> None:
        held: list[torch.Tensor] = []
        for i in range(30):
            held.append(f(x + i))
            if len(held) > 3:
                first = held.pop(0)
                if bool((first != 2 * (i - 3 + 1)).any()):
                    wrong.append(float(first[0]))

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_results_are_tensors_like_others() -> None:
    f = compiled(lambda x: (x + 1).abs())
    y = f(torch.zeros(LARGE))
    y.resize_(2 * LARGE)
    assert bool((y[:LARGE] == 1).all())
    z = f(torch.zeros(LARGE))
    z.untyped_storage().resize_(0)
    shared = f(torch.zeros(LARGE)).share_memory_()
    assert bool((shared == 1).all())
