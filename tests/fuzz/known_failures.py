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


X = "a0 = torch.ones((2, 2), dtype=torch.float64)"
KNOWN = [
    Known(
        "write, then a value, then an error",
        "value",
        "the part before the condition has run when eager PyTorch starts the call anew",
        Program(
            inputs=(X,),
            args=("a0",),
            body=("a0.mul_(2)", "if a0.sum() > 0:\n    v1 = a0 @ a0[0, 0]"),
            returns=("a0",),
        ),
    ),
    Known(
        "random numbers, then a value, then an error",
        "random state",
        "the part before the condition has run when eager PyTorch starts the call anew",
        Program(
            inputs=(X,),
            args=("a0",),
            body=("v1 = F.dropout(a0, 0.5)", "if a0.sum() > 0:\n    v2 = a0 @ a0[0, 0]"),
            returns=("a0",),
        ),
    ),
    Known(
        "another layout, then a value",
        "internal error",
        "what the first part did to the input's metadata is taken for another call's",
        Program(
            inputs=("a0 = torch.ones((2, 3), dtype=torch.float64)",),
            args=("a0",),
            body=("a0.t_()", "if a0.sum() > 0:\n    v1 = a0 * 2"),
            returns=("v1",),
        ),
    ),
]
