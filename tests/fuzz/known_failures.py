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
    Known(
        "a bfloat16 tensor times a number in place",
        "value",
        "aten::mul_.Scalar rounds the number first; PyTorch's Python calls mul_.Tensor",
        Program(
            inputs=(
                "a0 = torch.randn((200,), dtype=torch.bfloat16, generator=g)",
                "a1 = a0.detach()",  # inputs that share storage are written in order
            ),
            args=("a0", "a1"),
            body=("a1.mul_(1e-2)",),
            returns=("a0",),
        ),
    ),
    Known(
        "a write to a result that a region saved",
        "backward error",
        "the rule of a division reads its result, PyTorch's node its operands",
        Program(
            inputs=("a0 = torch.ones((2,)).requires_grad_()",),
            args=("a0",),
            body=(
                "v1 = F.normalize(a0 * 2, dim=0)",
                "v2 = v1[v1 > 0].sum()",
                "v1.masked_scatter_(v1 > 0, v1 * 1)",
            ),
            returns=("v1",),
        ),
    ),
    Known(
        "a write through a view of an input that has got history",
        "error",
        "the view's write is refused as one to a leaf",
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
