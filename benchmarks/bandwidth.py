"""How fast this machine moves memory, in the manner of STREAM: what kernels can reach."""

from __future__ import annotations

import functools

import torch

from measure import interleaved

ELEMENTS = 1 << 24  # 64 MiB a tensor: larger than the caches


@functools.cache
def bytes_per_second(threads: int) -> dict[str, float]:
    """The most of many runs into memory that is there already: copy (a = b) and add (a = b + c)."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b, c = (torch.ones(ELEMENTS) for _ in range(3))
    calls = {"copy": lambda: a.copy_(b), "add": lambda: torch.add(b, c, out=a)}
    times = interleaved(calls, rounds=12)
    torch.set_num_threads(before)
    moved = {"copy": 2, "add": 3}
    return {name: moved[name] * 4 * ELEMENTS / t.minimum for name, t in times.items()}
