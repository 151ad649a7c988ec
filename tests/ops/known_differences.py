"""What may differ from eager in PyTorch's operator database, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fulmen import _core


@dataclass(frozen=True)
class Known:
    """Failures that are accepted.

    Attributes:
        entries: names of the database's entries.
        checks: the checks that fail; see opdb.py.
        reason: a regular expression that the result's reason begins with.
        why: what the report says.
        always: whether each entry shows it in its first two samples, as the test wants to see then.
    """

    entries: str
    checks: str
    reason: str
    why: str
    always: bool = True

    def explains(self, entry: str, result: Any) -> bool:
        return (
            entry in self.entries.split()
            and result.check in self.checks.split()
            and re.match(self.reason, result.reason) is not None
        )


SPARSE = "sparse tensors are no values of a trace: PyTorch runs what makes or takes them"
SHAPE_OF_WRITTEN = (
    "the call changes the shape of a tensor that it writes (resize_, or an out= tensor that does "
    "not have the result's shape): PyTorch runs it"
)
OUT_VALUES = (
    "eager's result in this out= tensor (strided, or of a wider dtype) is not its result without "
    "out=: it rounds otherwise, or takes the tensor for contiguous; Fulmen's is the latter"
)
OUT_STRIDES = (
    "eager gives an out= tensor new strides: linear algebra one without elements, products of "
    "vectors any"
)
FAKE_STRIDES = (
    "PyTorch runs this call, and its own rules give a dimension of size 0 or 1 another stride than "
    "the call does"
)
DATA = "the number of results depends on the values of a tensor: PyTorch runs it"
LSTSQ = (
    "the driver gelsy reads uninitialized pivots in eager, whose own results differ from run to run"
)
LEGACY_RESIZE = (
    "eager resizes the tensor written, with a deprecation warning; Fulmen raises the error that "
    "the warning announces"
)

KNOWN = [
    Known(
        "sparse_mm_reduce sparse_sampled_addmm to_sparse",
        "forward method out grad",
        "Unsupported: a (tensor|result) that is not .*strided",
        SPARSE,
    ),
    Known(
        "resize_",
        "forward inplace",
        "Unsupported: .* changes the shape of a tensor",
        SHAPE_OF_WRITTEN,
    ),
    Known(
        "masked_select nonzero",
        "out",
        "Unsupported: an out= tensor of another shape",
        SHAPE_OF_WRITTEN,
    ),
    Known(
        "addmm addmm_decomposed addbmm narrow_copy nn_functional_avg_pool3d nn_functional_gelu "
        "native_batch_norm _native_batch_norm_legit",
        "out",
        "values differ.* and equal eager's without",
        OUT_VALUES,
    ),
    Known(
        "atanh logit nn_functional_softplus sinh std fft_ihfftn",
        "out",
        "values differ.* and equal eager's without",
        OUT_VALUES,
        always=False,
    ),
    Known(
        "linalg_eig linalg_eigvals cholesky_inverse nn_functional_linear matmul geqrf "
        "triangular_solve",
        "out",
        "trace",
        OUT_STRIDES,
        always=False,
    ),
    Known("einsum nn_functional_rms_norm", "forward", "trace", FAKE_STRIDES, always=False),
    Known("tensor_split", "forward method grad", "DataDependentError", DATA),
    Known("addbmm", "inplace", "UserRuntimeError: addbmm_", LEGACY_RESIZE),
    Known(
        "linalg_lstsq linalg_lstsq_grad_oriented",
        "forward grad",
        "values differ",
        LSTSQ,
        always=False,
    ),
]

# Rows that no sample reaches → why.
STEP = "part of programs with numbers or backward(): tests/python/test_whole_step.py"
ARGUMENT = "returns its argument, as eager does, so that nothing is recorded"
REFLECTED = "front ends turn it round: for traces that are written as text"
UNSAMPLED: dict[str, str] = {
    "check_tensor": "a statement of prologues",
    "set_inference_mode": "a mode, no operation: tests/python/test_inference_mode.py",
    "cuda": "needs a device",
    **dict.fromkeys(("backward_begins", "check_leaves", "freed", "gradients"), STEP),
    **dict.fromkeys(("exchange_random_state", "random_state"), "tests/python/test_checkpoint.py"),
    **dict.fromkeys(
        ("linear_cross_entropy", "linear_cross_entropy_forward", "scaled_gradient"),
        "recorded by a pass: tests/python/test_products.py",
    ),
    **{
        s.name: STEP
        for s in _core.symbols()
        if s.name.startswith(("number_", "_fused_", "_amp_foreach", "_amp_update"))
    },
    **dict.fromkeys(("conj", "cpu", "positive", "resolve_conj", "resolve_neg"), ARGUMENT),
    **{f"{name}.Scalar_Tensor": REFLECTED for name in ("eq", "ge", "gt", "le", "lt", "ne")},
}


def reason_of(entry: str, result: Any) -> str | None:
    """Why this failure is known, or None."""
    return next((known.why for known in KNOWN if known.explains(entry, result)), None)
