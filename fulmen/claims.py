"""Every claim and refusal of a compiled function: `fulmen.examine.executors`."""

from __future__ import annotations

import dataclasses
from typing import Any

from fulmen.compile import CompiledTrace, collect
from fulmen.dynamo import FulmenCompiler
from fulmen.jit import state_of


@dataclasses.dataclass(frozen=True)
class Claim:
    """What became of one operation.

    Attributes:
        operation: its results and symbol, and where in the user's program it is called.
        symbol: the symbol's name.
        executor: who runs it; empty where its decomposition was offered instead.
        refusals: (executor, why it refused), in the order in which they were asked.
        backward: whether it is part of a backward program.
    """

    operation: str
    symbol: str
    executor: str
    refusals: tuple[tuple[str, str], ...]
    backward: bool = False


@dataclasses.dataclass(frozen=True)
class Claims:
    """The claims of a function's programs, with a table as its text.

    Attributes:
        executors: who was asked, in order.
        claims: one for each operation; what an executor or a decomposition puts in the place of one
            follows it.
        notes: why regions were not made.
    """

    executors: tuple[str, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...]

    def of(self, symbol: str) -> list[Claim]:
        """The claims of a symbol."""
        return [c for c in self.claims if c.symbol == symbol]

    def __str__(self) -> str:
        lines = [f"executors: {', '.join(self.executors)}"]
        for c in self.claims:
            where = "backward: " if c.backward else ""
            who = c.executor or "(decomposed)"
            lines.append(f"{who:<14} {where}{c.operation}")
            lines += [f"{'':<14}   {name}: {why}" for name, why in c.refusals]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def executors(fn: Any) -> Claims:
    """Which executor runs each operation of a compiled function, and why others do not.

    Args:
        fn: what `fulmen.jit` returned, or a FulmenCompiler; it has been called. Backwards are
            compiled, and so reported, when they first run.
    """
    state = state_of(fn)
    programs: list[CompiledTrace] = []
    if isinstance(state, FulmenCompiler):
        for graph in collect(state.graphs):
            programs += graph.compiled
    else:
        programs = state.all_programs()
    names: tuple[str, ...] = ()
    claims: list[Claim] = []
    notes: list[str] = []
    for program in programs:
        names = tuple(program.compilation.executors)
        claims += [_claim(d, False) for report in program.reports for d in report.decisions]
        claims += [_claim(d, True) for d in program.compilation.later.decisions]
        notes += [text for name, text in program.notes if name == "partition"]
    return Claims(names, tuple(claims), tuple(notes))


def _claim(decision: Any, backward: bool) -> Claim:
    operation, symbol, executor, refusals = decision
    return Claim(operation, symbol, executor, tuple(refusals), backward)
