"""PyTorch's operator database under autocast: every entry with float32 and low precision inputs."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import exactness
from opdb import Result, compare
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.compile import compile_trace
from fulmen.trace import trace_call

# Entry → why Fulmen's result is not eager's bit for bit.
_FAKE_DTYPE = "fake tensors give another dtype than eager for inputs of mixed precision"
_EAGER = "left to eager, with autocast or without"
KNOWN = {
    "_softmax_backward_data": _FAKE_DTYPE,
    "native_group_norm": _FAKE_DTYPE,
    "native_layer_norm": _FAKE_DTYPE,
    "native_batch_norm": _FAKE_DTYPE,
    "_native_batch_norm_legit": _FAKE_DTYPE,
    "_batch_norm_with_update": _FAKE_DTYPE,
    "normal": _FAKE_DTYPE,
    "sparse.sampled_addmm": _EAGER,
    "sparse.mm.reduce": _EAGER,
    "tensor_split": _EAGER,
    "resize_": _EAGER,
    "to_sparse": _EAGER,
    "linalg.pinv": "left to eager: autocast reaches products that fake tensors do not show",
    "linalg.pinv.hermitian": "as linalg.pinv",
}

ENTRIES = [op for op in op_db if torch.float32 in op.supported_dtypes("cpu")]


def lower(args: Any) -> Any:
    return pytree.tree_map(
        lambda v: (
            v.detach().bfloat16() if isinstance(v, torch.Tensor) and v.dtype == torch.float32 else v
        ),
        args,
    )


def first_lower(args: Any) -> Any:
    """One tensor of low precision among others of float32, as activations and parameters."""
    seen = False

    def one(value: Any) -> Any:
        nonlocal seen
        if seen or not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            return value
        seen = True
        return value.detach().bfloat16()

    return pytree.tree_map(one, args)


def tensors(tree: Any) -> list[torch.Tensor]:
    return [v for v in pytree.tree_leaves(tree) if isinstance(v, torch.Tensor)]


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def has_policy(op: Any) -> bool:
    names = {op.name, op.aten_name, op.name.replace(".", "_"), op.name.rsplit(".", 1)[-1]}
    return bool(names & set(_core.autocast_rules("cpu")))


CAST = [op for op in ENTRIES if op.supports_autograd and has_policy(op)]


@pytest.mark.parametrize("op", CAST, ids=lambda op: op.full_name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_gradients(op: Any, dtype: torch.dtype) -> None:
    """Of the entries that autocast has a policy for: the bits of eager's gradients."""
    if op.full_name in KNOWN:
        pytest.skip(KNOWN[op.full_name])
    for sample in itertools.islice(op.sample_inputs("cpu", torch.float32, requires_grad=True), 2):
        inputs = ((sample.input, *sample.args), sample.kwargs)

        def gradients(given: Any, sample: Any = sample, *, compiled: bool = False) -> list[Any]:
            leaves = [v for v in tensors(given) if v.requires_grad and v.is_leaf]
            with torch.autocast("cpu", dtype):
                result = run(op.op, *given, compiled=compiled)
            outputs = tensors(sample.output_process_fn_grad(result))
            outputs = [v for v in outputs if v.requires_grad]
            ones = [torch.ones_like(v) for v in outputs]
            return list(torch.autograd.grad(outputs, leaves, ones, allow_unused=True))

        try:
            expected = gradients(inputs)
        except RuntimeError:
            continue  # eager refuses it in this precision
        got = gradients(inputs, compiled=True)
        if exactness.with_kernels():
            assert [g is None for g in got] == [e is None for e in expected]
            assert [g.dtype for g in tensors(got)] == [e.dtype for e in tensors(expected)]
            problem = exactness.difference(got, expected, gradients, inputs, precision=dtype)
            assert not problem, problem
        else:
            assert all(same(g, e) for g, e in zip(got, expected, strict=True))


def run(fn: Callable[..., Any], args: Any, kwargs: Any, *, compiled: bool) -> Any:
    torch.manual_seed(0)
    if not compiled:
        return fn(*args, **kwargs)
    trace, _, inputs = trace_call(fn, args, kwargs)
    dispatch = _core.Dispatch(lambda *a: None)
    dispatch.add(compile_trace(trace).program, (None,) * len(inputs), ())
    torch.manual_seed(0)
    return dispatch(*inputs)


@pytest.mark.parametrize("op", ENTRIES, ids=lambda op: op.full_name)
def test_entry(op: Any) -> None:
    changes: list[Callable[[Any], Any]] = [lambda args: args, lower, first_lower]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sample in itertools.islice(op.sample_inputs("cpu", torch.float32), 2):
            for change in changes:
                args, kwargs = change(((sample.input, *sample.args), dict(sample.kwargs)))
                result = Result("forward", "float32", 0)
                with torch.autocast("cpu", torch.bfloat16):
                    compare(result, op.name, op.op, args, kwargs)
                if result.skip or op.full_name in KNOWN:
                    continue
                assert result.passed, result.reason
