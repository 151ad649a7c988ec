"""What may differ from eager in PyTorch's operator database, and why."""

from __future__ import annotations

import re
from typing import Any

SPARSE = "sparse tensors are no values of a trace: PyTorch runs what makes or takes them"
SHAPE_OF_WRITTEN = (
    "the call changes the shape of a tensor that it writes (resize_, or an out= tensor that does "
    "not have the result's shape): PyTorch runs it"
)
OBJECT = "the call takes a Python object, which the printed trace names but can't hold"
STRIDED_OUT = (
    "eager writes this operator's strided out= tensor as if it were contiguous; Fulmen writes the "
    "right elements"
)
OUT_ROUNDING = (
    "eager computes into a strided or wider out= tensor by another loop than into a fresh one, and "
    "rounds otherwise; Fulmen computes the same numbers as without out=, and copies them"
)
EMPTY_OUT = "eager gives an out= tensor without elements new strides"
DATA = "the number of results depends on the values of a tensor: PyTorch runs it"
LSTSQ = (
    "the driver gelsy reads uninitialized pivots in eager, whose own results differ from run to run"
)
LEGACY_RESIZE = (
    "eager resizes the tensor written, with a deprecation warning; Fulmen raises the error that "
    "the warning announces"
)

# (entry, check, the result's reason), as regular expressions that match from the start → why.
KNOWN: list[tuple[str, str, str, str]] = [
    (".*", ".*", "Unsupported: a (tensor|result) that is not .*strided", SPARSE),
    (".*", ".*", "Unsupported: .* changes the shape of a tensor", SHAPE_OF_WRITTEN),
    (".*", "out", "Unsupported: an out= tensor of another shape", SHAPE_OF_WRITTEN),
    (".*", "text", "text: NameError: name 'const_", OBJECT),
    (
        "nn_functional_(avg_pool3d|gelu)|narrow_copy|.*native_batch_norm.*",
        "out",
        "values differ",
        STRIDED_OUT,
    ),
    (".*", "out", "values differ by rounding", OUT_ROUNDING),
    ("linalg_eig|linalg_eigvals|cholesky_inverse|nn_functional_linear", "out", "trace", EMPTY_OUT),
    ("tensor_split", ".*", "DataDependentError", DATA),
    ("linalg_lstsq.*", ".*", "values differ", LSTSQ),
    ("addbmm", "inplace", "UserRuntimeError: addbmm_", LEGACY_RESIZE),
]


def reason_of(name: str, result: Any) -> str | None:
    """Why this failure is known, or None."""
    for entry, check, reason, why in KNOWN:
        if (
            re.fullmatch(entry, name)
            and re.fullmatch(check, result.check)
            and re.match(reason, result.reason)
        ):
            return why
    return None
