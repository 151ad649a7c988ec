"""Looking at compiled functions: memory, which executor runs what, which rewrite broke a result."""

from __future__ import annotations

import dataclasses
from typing import Any

from fulmen import _core
from fulmen.bisection import Culprit, bisect
from fulmen.claims import Claim, Claims, executors
from fulmen.errors import UserValueError
from fulmen.jit import last_compiled


@dataclasses.dataclass(frozen=True)
class Stage:
    """A program of a call.

    Attributes:
        name: "forward"; the name of a backward in the trace; or "autograd", for the gradients of
            what PyTorch's own autograd differentiates.
        peak: the most bytes while it runs, above those before the call.
        end: the bytes when it has run.
    """

    name: str
    peak: int
    end: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a call and its backward allocate, in bytes above what there was before the call.

    Attributes:
        stages: the programs in the order in which they run.
    """

    stages: tuple[Stage, ...]

    @property
    def peak(self) -> int:
        """The most of all stages."""
        return max(stage.peak for stage in self.stages)

    @property
    def forward(self) -> Stage:
        """The call; its `end` is what is kept for the backward, and the results."""
        return self.stages[0]

    def __str__(self) -> str:
        rows = [f"{'':12} {'peak':>10} {'at the end':>12}"]
        rows += [f"{s.name:12} {_mib(s.peak):>10} {_mib(s.end):>12}" for s in self.stages]
        return "\n".join(rows)


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def memory(fn: Any) -> Memory:
    """Predicts the memory of the program that `fn`, a jitted function or module, compiled last.

    It is the memory of tensors: the caller keeps the results, calls `backward()` on the scalar ones
    (on all where none is a scalar), has no gradients before, and keeps them afterwards. Not in it:
    what an operator of PyTorch allocates for itself while it runs, and what PyTorch's own autograd
    keeps for operations that `fulmen.stats(fn).notes` names.

    Raises:
        UserTypeError: `fn` is nothing that `fulmen.jit` returned.
        UserValueError: it has compiled no program so far.
    """
    compiled = last_compiled(fn)
    if compiled is None:
        raise UserValueError(
            "examine.memory(): got a function without a program; expected one that was called",
            "no-program",
        )
    return Memory(
        tuple(
            Stage(*stage)
            for stage in _core.predicted_memory(compiled.program.trace, compiled.compilation)
        )
    )


__all__ = ["Claim", "Claims", "Culprit", "Memory", "Stage", "bisect", "executors", "memory"]
