"""Counters and reports of compiled programs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Stats:
    """What a compiled function did so far.

    Attributes:
        calls: calls of compiled programs.
        cache_hits: calls that found a compiled program.
        cache_misses: calls that had to compile.
        compile_seconds: seconds by phase: acquisition, passes, transforms, claim, program.
        instructions: instructions of the programs, summed.
        kernels: executor → instructions that it runs.
        fallbacks: what PyTorch runs from Python → why no row takes it.
        splits: graph node → why it was split off to PyTorch.
        refusals: symbol → why an executor of higher priority refused it.
        guards: conditions that each program's guards state, first program first.
        specialized: numbers that cache="symbolic values" could not leave open, and what needed
            their value.
        recompiles: why each compilation after the first was needed.
        notes: what passes left as it was, and why (in-place operations, for instance); what was
            done while a program was traced, and is not done when it runs.
    """

    calls: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    compile_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    instructions: int = 0
    kernels: dict[str, int] = dataclasses.field(default_factory=dict)
    fallbacks: dict[str, str] = dataclasses.field(default_factory=dict)
    splits: dict[str, str] = dataclasses.field(default_factory=dict)
    refusals: dict[str, str] = dataclasses.field(default_factory=dict)
    guards: list[int] = dataclasses.field(default_factory=list)
    specialized: list[str] = dataclasses.field(default_factory=list)
    recompiles: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add_seconds(self, phase: str, seconds: float) -> None:
        self.compile_seconds[phase] = self.compile_seconds.get(phase, 0.0) + seconds
