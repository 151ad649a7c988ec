"""Memory that Fulmen keeps for the next tensors: that of large results of programs, which would
cost more to get from the system again than to fill."""

from __future__ import annotations

from dataclasses import dataclass

from fulmen import _core


@dataclass(frozen=True)
class MemoryStats:
    """Recycled memory of this process.

    Attributes:
        used: bytes of blocks that tensors hold now.
        kept: bytes of blocks that are free.
        fresh: how many blocks came from the system.
        recycled: how many times a block was used again.
    """

    used: int
    kept: int
    fresh: int
    recycled: int


def memory_stats() -> MemoryStats:
    """What recycled memory there is."""
    return MemoryStats(*_core.memory_counts())


def empty_cache() -> None:
    """Gives the memory that is kept free back to the system. Tensors stay as they are."""
    _core.release_kept_memory()
