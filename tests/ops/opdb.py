"""PyTorch's operator database run through Fulmen: every sample traced, compiled, run, and compared
with eager.

What is compared, as `Check`s of one sample:
    forward     op(...): values bit for bit; dtype, shape, strides and requires_grad of the trace's
                outputs and of the results; the arguments afterwards
    method, inplace, operator
                the same for the entry's other callables
    out         out= tensors of the result's shape: contiguous, strided, of a wider dtype
    grad        forward again with inputs that require grad
    text        the printed trace parses to an equal one and runs on plain PyTorch
    decomposed  the trace with every row replaced by its decomposition, as far as it goes: as close
                to float64 as eager is
With generated kernels (exactness.py) the last two are left out, and dtypes are more.

Run as a program it is a worker: it prints one JSON line for each check and one before each entry,
so that its reader knows where it ended when the process did.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import exactness
import torch
from torch.testing._internal import common_methods_invocations
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.compile import compile_trace
from fulmen.trace import trace_call

# The worker seeds before each run; the entries' own seeding would happen at trace time only.
common_methods_invocations.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)

# Results with uninitialized memory: only metadata can be compared.
UNINITIALIZED = {
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided",
    "resize_", "resize_as_",
}  # fmt: skip

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16)
CHECKS = ("forward", "method", "inplace", "operator", "out", "grad", "text", "decomposed")


@dataclass
class Result:
    """What one check of one sample gave; `skip` says why it does not apply."""

    check: str
    dtype: str
    sample: int
    values: bool = False
    meta: bool = False
    reason: str = ""
    skip: str = ""
    opaque: list[str] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    regions: int = 0

    @property
    def passed(self) -> bool:
        return self.values and self.meta


def dtypes_of(op: Any) -> list[torch.dtype]:
    """float32 and one more dtype, those of them that the entry supports."""
    supported = op.supported_dtypes("cpu")
    if exactness.with_kernels():
        return [t for t in KERNEL_DTYPES if t in supported]
    others = (torch.int64, torch.complex64, torch.bool, torch.float64)
    return [torch.float32] * (torch.float32 in supported) + [t for t in others if t in supported][
        :1
    ]


def run_entry(op: Any, limit: int, checks: tuple[str, ...] = CHECKS) -> Iterator[Result]:
    """The checks of the first `limit` samples of each dtype."""
    for dtype in dtypes_of(op):
        try:
            samples = list(
                itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), limit)
            )
        except Exception as e:
            yield Result("forward", str(dtype), 0, skip=f"no samples: {e}"[:200])
            continue
        for number, sample in enumerate(samples):
            yield from _run_sample(op, dtype, number, sample, checks)


def _run_sample(
    op: Any, dtype: torch.dtype, number: int, sample: Any, checks: tuple[str, ...]
) -> Iterator[Result]:
    args, kwargs = (sample.input, *sample.args), sample.kwargs

    def run(check: str, fn: Callable[..., Any], args: Any, kwargs: Any) -> Result:
        result = Result(check, str(dtype), number)
        compare(result, op.name, fn, args, kwargs)
        return result

    if "forward" in checks:
        yield run("forward", op.op, args, kwargs)
    variants = {"method": op.method_variant, "inplace": op.inplace_variant}
    variants["operator"] = op.operator_variant
    for check, variant in variants.items():
        if check in checks and variant is not None and number < 4:
            yield run(check, variant, args, kwargs)
    if "inplace" in checks and op.inplace_operator_variant is not None and number < 2:
        yield run("inplace", op.inplace_operator_variant, args, kwargs)
    if "out" in checks and op.supports_out and number < 3:
        yield from _run_out(op, dtype, number, args, kwargs)
    if "grad" in checks and op.supports_autograd and dtype.is_floating_point and number < 3:
        for grad_sample in itertools.islice(
            op.sample_inputs("cpu", dtype, requires_grad=True), number, number + 1
        ):
            grad_args = (grad_sample.input, *grad_sample.args)
            yield run("grad", op.op, grad_args, grad_sample.kwargs)
    if exactness.with_kernels():
        return
    if "text" in checks and number == 0:
        yield _run_text(op, dtype, number, args, kwargs)
    if "decomposed" in checks:
        result = Result("decomposed", str(dtype), number)
        compare_decomposed(result, op.op, args, kwargs)
        yield result


def _run_out(op: Any, dtype: torch.dtype, number: int, args: Any, kwargs: Any) -> Iterator[Result]:
    """Calls with out= tensors, contiguous and strided; they are arguments like the others."""
    result = Result("out", str(dtype), number)
    try:
        torch.manual_seed(0)
        expected = op.op(*_copy(args), **_copy(kwargs))
    except Exception as e:
        result.skip = f"eager raises {type(e).__name__}"
        yield result
        return
    if not all(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(expected)):
        return
    for out_of in (_contiguous, _strided, _wider) if number == 0 else (_contiguous, _strided):
        outs = pytree.tree_map(out_of, tuple(expected) if isinstance(expected, tuple) else expected)
        result = Result("out", str(dtype), number)
        got = compare(result, op.name, op.op, args, {**kwargs, "out": outs})
        if not result.values and result.meta:
            fresh = pytree.tree_map(
                lambda e, o: e.to(o.dtype), expected, _as_structure(got, expected)
            )
            if _equal(got, fresh):
                result.reason = "values differ from eager's with out=, and equal eager's without"
        yield result


def _as_structure(tree: Any, like: Any) -> Any:
    return pytree.tree_unflatten(pytree.tree_leaves(tree), pytree.tree_structure(like))


def _contiguous(t: torch.Tensor) -> torch.Tensor:
    return torch.full_like(t, 3, memory_format=torch.contiguous_format)


def _strided(t: torch.Tensor) -> torch.Tensor:
    return torch.full((*t.shape, 2), 3, dtype=t.dtype).select(-1, 1)


def _wider(t: torch.Tensor) -> torch.Tensor:
    if t.dtype.is_floating_point or t.dtype.is_complex:
        return torch.full_like(t, 3, dtype=torch.promote_types(t.dtype, torch.float64))
    return torch.full_like(t, 3, dtype=torch.float32)


def compare(result: Result, name: str, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Fills in `result` from one call of `fn` by eager PyTorch and by Fulmen, on copies. Returns
    what Fulmen gave, or None.
    """
    eager_args, eager_kwargs = _copy((args, kwargs))
    try:
        torch.manual_seed(0)
        expected = fn(*eager_args, **eager_kwargs)
    except Exception as e:
        result.skip = f"eager raises {type(e).__name__}"
        return None
    if expected is NotImplemented:
        result.skip = "eager returns NotImplemented"
        return None
    our_args, our_kwargs = _copy((args, kwargs))
    try:
        trace, tracer, inputs = trace_call(fn, our_args, our_kwargs)
        result.opaque = sorted(tracer.fallbacks)
        if exactness.with_kernels():
            program, result.regions = exactness.build_program(trace)
            stages = [trace]
        else:
            compiled = compile_trace(trace)
            program, stages = compiled.program, [trace, *compiled.stages]
        result.symbols = sorted({b.symbol.name for t in stages for b in t.bound_symbols})
        dispatch = _core.Dispatch(lambda *a: None)
        dispatch.add(program, (None,) * len(inputs), ())
        torch.manual_seed(0)
        got = dispatch(*inputs)
    except Exception as e:
        result.reason = f"{type(e).__name__}: {e}".split("\n")[0][:200]
        return None
    problem = _meta_problem("trace", trace.output, expected)
    problem = problem or _meta_problem("result", got, expected)
    result.meta = not problem
    values = name in UNINITIALIZED or _equal(got, expected)
    ours, eagers = (our_args, our_kwargs), (eager_args, eager_kwargs)
    unwritten = name in UNINITIALIZED or _equal(ours, eagers)
    if exactness.with_kernels() and not (values and unwritten):

        def run(given: Any) -> Any:
            given = _copy(given)
            torch.manual_seed(0)
            return fn(*given[0], **given[1]), given

        judged = exactness.difference((got, ours), (expected, eagers), run, (args, kwargs))
        values = unwritten = not judged
        problem = problem or judged
    if not values:
        rounding = _equal(got, expected, ulps=16)
        problem = problem or ("values differ by rounding" if rounding else "values differ")
    if _meta_problem("argument", ours, eagers):
        result.meta = False
        problem = problem or "an argument's metadata differ after the call"
    elif not unwritten:
        values = False
        problem = problem or "an argument's values differ after the call"
    result.values = values
    result.reason = problem
    return got


def _run_text(op: Any, dtype: torch.dtype, number: int, args: Any, kwargs: Any) -> Result:
    result = Result("text", str(dtype), number)
    our_args, our_kwargs = _copy((args, kwargs))
    try:
        torch.manual_seed(0)
        expected = op.op(*_copy(args), **_copy(kwargs))
        trace, tracer, inputs = trace_call(op.op, our_args, our_kwargs)
    except Exception as e:
        result.skip = f"no trace: {type(e).__name__}"
        return result
    result.opaque = sorted(tracer.fallbacks)
    try:
        text = str(trace)
        parsed = _core.parse_trace(text)
        if not trace.equals(parsed, names=True):
            result.reason = "the printed trace parses to another one"
            return result
        if str(parsed) != text:
            result.reason = "the parsed trace prints differently"
            return result
        scope: dict[str, Any] = {}
        exec(text, scope)
        torch.manual_seed(0)
        got = scope[trace.name](*inputs)
    except Exception as e:
        result.reason = f"text: {type(e).__name__}: {e}".split("\n")[0][:200]
        return result
    result.meta = True
    result.values = op.name in UNINITIALIZED or _equal(got, expected)
    result.reason = "" if result.values else "text: values differ"
    return result


def decompose(trace: Any) -> Any:
    """The trace with each bound symbol replaced by its decomposition, down to prims."""
    while True:
        recorder = _core.Recorder.for_trace(trace)
        recorder.enter()
        changed = False
        for bsym in trace.bound_symbols:
            inner = bsym.subsymbols
            changed = changed or bool(inner)
            for b in inner or [bsym]:
                recorder.append(b)
        trace = recorder.finish_rewrite(trace, "Decomposition") if changed else trace
        recorder.exit()
        if not changed:
            return trace


def compare_decomposed(result: Result, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Fills in `result` from the decomposition of the trace of one call of `fn`."""
    try:
        trace, _, inputs = trace_call(fn, *_copy((args, kwargs)))
    except Exception as e:
        result.skip = f"no trace: {type(e).__name__}"
        return
    if not any(b.subsymbols for b in trace.bound_symbols):
        result.skip = "nothing to decompose"
        return
    try:
        torch.manual_seed(0)
        expected = fn(*_copy(args), **_copy(kwargs))
        double_args, double_kwargs = pytree.tree_map(_double, _copy((args, kwargs)))
        torch.manual_seed(0)
        exact = fn(*double_args, **double_kwargs)
        compiled = compile_trace(decompose(trace))
        dispatch = _core.Dispatch(lambda *a: None)
        dispatch.add(compiled.program, (None,) * len(inputs), ())
        torch.manual_seed(0)
        got = dispatch(*inputs)
    except Exception as e:
        result.reason = f"decomposed: {type(e).__name__}: {e}".split("\n")[0][:200]
        return
    result.reason = _meta_problem("decomposed", got, expected)
    result.meta = not result.reason
    result.values = all(
        _as_close(g, e, x)
        for g, e, x in zip(*map(pytree.tree_leaves, (got, expected, exact)), strict=True)
    )
    result.reason = result.reason or ("" if result.values else "decomposed: values differ")


def _double(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return {torch.float32: torch.float64, torch.complex64: torch.complex128}.get(value, value)
    if isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.is_complex()):
        return value.to(torch.promote_types(value.dtype, torch.float64))
    return value


def _as_close(got: Any, eager: Any, exact: Any) -> bool:
    """Whether `got` is as close to `exact` as `eager` is, up to a few roundings."""
    if not isinstance(eager, torch.Tensor):
        return bool(got == eager)
    if not eager.is_floating_point() and not eager.is_complex():
        return torch.equal(got, eager)
    if got.shape != eager.shape or got.shape != exact.shape:
        return False
    finite = exact.isfinite() & eager.isfinite()
    if not torch.equal(got.isfinite() & finite, finite):
        return False
    if not finite.any():
        return True
    dtype, precision = eager.dtype, torch.finfo(eager.dtype).eps
    got, eager, exact = got[finite].to(exact.dtype), eager[finite].to(exact.dtype), exact[finite]
    # Where eager is float64 itself, its own error is not known.
    roundings = 8 if exact.dtype != dtype else 256
    bound = 2 * (eager - exact).abs().max() + roundings * precision * exact.abs().max()
    return bool((got - exact).abs().max() <= bound)


def _copy(tree: Any) -> Any:
    """A copy of all tensors that keeps strides, offsets, and who shares storage with whom."""
    storages: dict[int, torch.UntypedStorage] = {}

    def copy(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.layout != torch.strided or value.is_conj() or value.is_neg():
            return value.detach().clone().requires_grad_(value.requires_grad)
        storage = value.untyped_storage()
        if storage._cdata not in storages:
            storages[storage._cdata] = storage.clone()
        with torch.no_grad():
            t = torch.empty(0, dtype=value.dtype).set_(
                storages[storage._cdata], value.storage_offset(), value.shape, value.stride()
            )
        return t.requires_grad_(value.requires_grad)

    return pytree.tree_map(copy, tree)


def _meta_problem(what: str, got: Any, expected: Any) -> str:
    """How the metadata differ, or nothing. A size that the trace calls unknown equals any."""
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    if len(a) != len(b):
        return f"{what}: {len(a)} values; eager: {len(b)}"
    for x, y in zip(a, b, strict=True):
        if not isinstance(y, torch.Tensor):
            number = type(y) in (bool, int, float, complex)
            if number and not isinstance(x, _core.NumberProxy) and type(x) is not type(y):
                return f"{what}: {type(x).__name__}; eager: {type(y).__name__}"
            continue
        if not isinstance(x, torch.Tensor):
            return f"{what}: {type(x).__name__}; eager: Tensor"
        if y.layout != torch.strided:
            if x.layout != y.layout:
                return f"{what}: {x.layout}; eager: {y.layout}"
            continue
        ours, eagers = _metadata(x), _metadata(y)
        if not all(
            o == e or (isinstance(o, str) and isinstance(e, int))
            for o, e in zip(_flat(ours), _flat(eagers), strict=False)
        ) or len(ours[1]) != len(eagers[1]):
            return f"{what}: {ours}; eager: {eagers}".replace("torch.", "")[:200]
    return ""


def _metadata(t: Any) -> tuple[Any, ...]:
    strides = t.strides if isinstance(t, _core.TensorProxy) else t.stride()
    grad = ("requires_grad",) if t.requires_grad else ()
    return (str(t.dtype), tuple(t.shape), tuple(strides), grad)


def _flat(metadata: tuple[Any, ...]) -> list[Any]:
    dtype, shape, strides, grad = metadata
    # A stride that multiplies an unknown size prints as an expression, and is unknown too.
    return [(dtype, grad, len(shape)), *shape, *strides]


def _equal(got: Any, expected: Any, ulps: int = 0) -> bool:
    """Bit for bit, or up to so many times the dtype's precision of the largest value."""
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if isinstance(y, torch.Tensor):
            if not isinstance(x, torch.Tensor) or x.shape != y.shape or x.dtype != y.dtype:
                return False
            if x.layout != y.layout:
                return False
            if x.layout != torch.strided:
                x, y = x.to_dense(), y.to_dense()
            inexact = ulps and y.numel() and (y.dtype.is_floating_point or y.dtype.is_complex)
            atol = ulps * torch.finfo(y.dtype).eps * y.abs().nan_to_num(0).max() if inexact else 0
            if not torch.allclose(x, y, rtol=0, atol=float(atol), equal_nan=True):
                return False
        elif x is not y and x != y and not (x != x and y != y):
            return False
    return True


def run_in_worker(
    indices: list[int],
    limit: int,
    checks: tuple[str, ...] = CHECKS,
    script: str = __file__,
    result_type: type[Any] = Result,
) -> Iterator[tuple[str, Any]]:
    """(name of the entry, its next result) of entries run in worker processes; a str in place of a
    result says how an entry ended its process.
    """
    while indices:
        done = subprocess.run(
            [sys.executable, script, str(limit), ",".join(checks), ",".join(map(str, indices))],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "FULMEN_VERIFY": "1"},
        )
        name, last = "", -1
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                continue
            record = json.loads(line)
            if "entry" in record:
                name, last = record["name"], record["entry"]
            else:
                yield name, result_type(**record)
        if not done.returncode:
            return
        if last < 0:
            raise RuntimeError(f"the worker does not start: {done.stderr[-2000:]}")
        yield name, f"exit {done.returncode} {done.stderr.strip()[-200:]}"
        indices = indices[indices.index(last) + 1 :]


def serve(run: Callable[[Any, int, tuple[str, ...]], Iterator[Any]]) -> None:
    """The worker's side of run_in_worker: what `run(entry, limit, checks)` yields, line by line."""
    parser = argparse.ArgumentParser(description="A worker; see the module.")
    parser.add_argument("limit", type=int)
    parser.add_argument("checks")
    parser.add_argument("indices")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for index in map(int, options.indices.split(",")):
        op = op_db[index]
        print(json.dumps({"entry": index, "name": op.formatted_name}), flush=True)
        for result in run(op, options.limit, tuple(options.checks.split(","))):
            print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    serve(run_entry)
