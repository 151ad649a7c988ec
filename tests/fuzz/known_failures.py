"""Differences from eager that are known, each as its smallest program."""

from __future__ import annotations

import dataclasses

from fuzz_program import Program


@dataclasses.dataclass(frozen=True)
class Known:
    """A difference that is there.

    Attributes:
        name: what it is about.
        kind: see `Failure`.
        why: why it is there.
    """

    name: str
    kind: str
    why: str
    program: Program


KNOWN = [
    Known(
        "a write to .data after the tensor was used",
        "backward error",
        "the program writes to the tensor itself, which counts the write; through .data PyTorch "
        "does not",
        Program(
            inputs=("a0 = torch.ones((2,)).requires_grad_()",),
            args=("a0",),
            body=("v1 = torch.clamp(a0, -1, 1.5)", "a0.data.add_(1)"),
            returns=("v1",),
        ),
    ),
]
