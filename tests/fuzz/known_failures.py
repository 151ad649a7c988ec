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
        "a write through a view of an input that has got history",
        "error",
        "eager refuses it too, unless something has asked for the history of the view since its "
        "base was written: here `v3`, which nobody needs and which the program leaves out",
        Program(
            inputs=("a0 = torch.ones((3, 3))", "a1 = torch.ones((3,)).requires_grad_()", "a2 = a0"),
            args=("a0", "a1", "a2"),
            body=(
                "v1 = a2.diagonal()",
                "a2.sub_(a1, alpha=2)",
                "v3 = v1 * 2",
                "v1.lerp_(a1, 0.5)",
            ),
            returns=("a0",),
        ),
    ),
]
