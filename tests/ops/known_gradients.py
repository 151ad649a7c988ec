"""Gradients that may differ from autograd's in PyTorch's operator database, and why."""

from __future__ import annotations

from typing import Any

from known_differences import DATA, SPARSE, Known

KNOWN: list[Known] = [
    Known(
        "sparse_mm_reduce",
        "gradient one_input",
        "Unsupported: a tensor that is not strided",
        SPARSE,
    ),
    Known("to_sparse", "gradient", "Unsupported: a result that is not a strided tensor", SPARSE),
    Known("tensor_split", "gradient one_result", "DataDependentError", DATA),
]


def reason_of_gradient(entry: str, result: Any) -> str | None:
    """Why this difference is accepted, if it is."""
    return next((k.why for k in KNOWN if k.explains(entry, result)), None)
