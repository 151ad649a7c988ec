"""Thousands of calls, some of which compile, keep no memory; several threads do so at once."""

from __future__ import annotations

import gc
import resource
import threading
import tracemalloc
import weakref
from typing import Any

import torch
from torch import nn

import fulmen


class Settings:
    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.log: list[Any] = []


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.settings = Settings(2.0)

    def forward(self, x: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x)) * self.settings.scale
        extra["seen"] = x
        return x + extra["bias"]


def signed(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if x.sum() > 0 else x - 1


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def soak(rounds: int) -> None:
    net = Net().eval()
    jitted, split = fulmen.jit(net), fulmen.jit(signed)
    x = torch.ones(2, 4)
    for i in range(rounds):
        with torch.no_grad():
            jitted(x, {"bias": 1.0})
        assert torch.equal(split(x if i % 2 else -x), signed(x if i % 2 else -x))


def compile_and_drop(rounds: int) -> list[weakref.ref[Any]]:
    """New functions, new modules and new objects, each gone after its calls."""
    dropped: list[weakref.ref[Any]] = []
    for i in range(rounds):
        net = Net()
        jitted = fulmen.jit(net)
        jitted(torch.ones(2, 4), {"bias": 1.0})
        net.settings = Settings(float(i))
        out = jitted(torch.ones(2, 4), {"bias": 1.0})
        out.sum().backward()
        dropped += [weakref.ref(net), weakref.ref(net.settings), weakref.ref(jitted)]
    return dropped


def test_hits_keep_nothing() -> None:
    soak(100)
    gc.collect()
    tracemalloc.start()
    before, objects, memory = tracemalloc.get_traced_memory()[0], len(gc.get_objects()), resident()
    soak(5000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 300_000, f"{grown} bytes of Python objects"
    assert len(gc.get_objects()) - objects < 500
    assert resident() - memory < 30 << 20


def test_compiled_programs_go_with_their_function() -> None:
    compile_and_drop(5)
    gc.collect()
    objects, memory = len(gc.get_objects()), resident()
    dropped = compile_and_drop(150)
    gc.collect()
    alive = [r for r in dropped if r() is not None]
    assert not alive, f"{len(alive)} of {len(dropped)} objects, such as {alive[0]()}"
    assert len(gc.get_objects()) - objects < 1500
    assert resident() - memory < 60 << 20


def test_threads_with_splits_modules_and_dropped_objects() -> None:
    net = Net().eval()
    shared, split = fulmen.jit(net), fulmen.jit(signed)
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        try:
            barrier.wait()
            own = fulmen.jit(lambda x, s=float(seed): signed(x * s) if seed % 2 else x * s)
            for i in range(25):
                x = torch.randn(1 + (i + seed) % 3, 4, generator=generator)
                with torch.no_grad():
                    mine: dict[str, Any] = {"bias": float(i % 4)}
                    plain = dict(mine)
                    assert torch.equal(shared(x, mine), net(x, plain))
                    assert torch.equal(mine["seen"], plain["seen"])
                assert torch.equal(split(x), signed(x))
                scaled = x * float(seed)
                assert torch.equal(own(x), signed(scaled) if seed % 2 else scaled)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]
