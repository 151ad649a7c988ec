"""Gradients of PyTorch's operator database through Fulmen's autodiff, against autograd's.

Every float64 sample of an entry that supports autograd is traced, differentiated, and both
programs run; the gradients of all inputs that require grad, for random cotangents, are compared
with `torch.autograd.grad` in eager. Variants of a sample, as the check's name:
    gradient    all inputs that require grad, all results
    one_result  a gradient for one of several results, the others undefined
    one_input   one of several inputs requires grad, the others are frozen

`ways` says how each operation on the way was differentiated: `vjp:name`, `augmented:name`,
`decomposition:name`, or `opaque:…` where no rule is, so that PyTorch's own autograd runs it.

Run as a program it is a worker, as opdb.py is.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import exactness
import opdb
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.errors import Unsupported
from fulmen.trace import trace_call

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass
class GradientResult(opdb.Result):
    """`values` up to rounding, `meta` dtype and shape; `bits` and `strides` say more."""

    bits: bool = False
    strides: bool = False
    ways: list[str] = field(default_factory=list)

    @property
    def way(self) -> str:
        """The least direct of the ways."""
        kinds = {way.split(":")[0] for way in self.ways}
        order = ("opaque", "decomposition", "augmented", "vjp")
        return next((kind for kind in order if kind in kinds), "nothing to differentiate")


def run_entry(op: Any, limit: int) -> Iterator[GradientResult]:
    """The gradients of the first `limit` samples in float64; with generated kernels, which that
    is too good to judge, in types that have fewer digits."""
    for dtype in KERNEL_DTYPES if exactness.with_kernels() else (torch.float64,):
        if not op.supports_autograd or dtype not in op.supported_backward_dtypes("cpu"):
            continue
        name = str(dtype).removeprefix("torch.")
        try:
            samples = list(
                itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=True), limit)
            )
        except Exception as e:
            yield GradientResult("gradient", name, 0, skip=f"no samples: {e}"[:200])
            continue
        for number, sample in enumerate(samples):
            yield from _run_sample(op, name, number, (sample.input, *sample.args), sample.kwargs)


def _run_sample(
    op: Any, dtype: str, number: int, args: Any, kwargs: Any
) -> Iterator[GradientResult]:
    result = GradientResult("gradient", dtype, number)
    results = compare(result, op.op, args, kwargs)
    yield result
    if result.skip or number > 1:
        return
    if results > 1:
        for k in {0, results - 1}:
            result = GradientResult("one_result", dtype, number)
            compare(result, op.op, args, kwargs, only=k)
            yield result
    leaves = _leaves((args, kwargs))
    if len(leaves) > 1:
        for k in {0, len(leaves) - 1}:
            frozen = opdb._copy((args, kwargs))
            for i, leaf in enumerate(_leaves(frozen)):
                leaf.requires_grad_(i == k)
            result = GradientResult("one_input", dtype, number)
            compare(result, op.op, *frozen)
            yield result


def compare(
    result: GradientResult, fn: Any, args: Any, kwargs: Any, only: int | None = None
) -> int:
    """Fills in `result` from one call of `fn`; `only` names the one result that has a gradient.
    Returns how many results are differentiable.
    """
    if not _leaves((args, kwargs)):
        result.skip = "no input requires grad"
        return 0
    cotangents: list[torch.Tensor] = []
    used: list[bool] = []

    def run(given: Any) -> tuple[torch.Tensor | None, ...]:
        given_args, given_kwargs = opdb._copy(given[:2])
        torch.manual_seed(0)
        outs = _differentiable(fn(*given_args, **given_kwargs))
        used[:] = [only is None or i == only for i in range(len(outs))]
        outs = [out for out, use in zip(outs, used, strict=True) if use]
        if outs and not cotangents:
            generator = torch.Generator().manual_seed(1)
            cotangents.extend(_cotangent(out, generator) for out in outs)
        directions = given[2] or cotangents
        leaves = _leaves((given_args, given_kwargs))
        return torch.autograd.grad(outs, leaves, directions, allow_unused=True) if outs else ()

    try:
        expected = run((args, kwargs, []))
        if not expected:
            result.skip = "no result requires grad"
            return 0
    except Exception as e:
        result.skip = f"eager raises {type(e).__name__}: {e}"[:200]
        return 0
    our_args, our_kwargs = opdb._copy((args, kwargs))
    try:
        trace, tracer, inputs = trace_call(fn, our_args, our_kwargs)
        result.opaque = sorted(tracer.fallbacks)
        trace = _prepared(trace)
        try:
            forward, backward = _core.differentiate(trace, used)
        except Unsupported as e:
            result.ways = sorted({f"opaque:{part.split(':')[0]}" for part in str(e).split("; ")})
            result.reason = f"no rule: {e}"[:300]
            return len(used)
        result.ways = _ways(trace, forward)
        result.symbols = sorted(
            {b.symbol.name for t in (forward, backward) for b in t.bound_symbols}
        )
        with torch.no_grad():
            torch.manual_seed(0)
            (_, saved), forward_regions = _run(forward, inputs)
            got_all, backward_regions = _run(backward, [*saved, *cotangents])
            result.regions = forward_regions + backward_regions
    except Exception as e:
        result.reason = f"{type(e).__name__}: {e}".split("\n")[0][:300]
        return len(used)
    position = {id(t): i for i, t in enumerate(inputs)}
    got = [
        got_all[position[id(leaf)]] if id(leaf) in position else None
        for leaf in _leaves((our_args, our_kwargs))
    ]
    _judge(result, got, expected)
    if exactness.with_kernels() and result.meta and result.reason == VALUES_DIFFER:
        leaves = [
            g if g is None or e is None or e.layout == torch.strided else e
            for g, e in zip(got, expected, strict=True)
        ]
        result.reason = exactness.difference(leaves, expected, run, (args, kwargs, cotangents))
        result.values = not result.reason
    return len(used)


VALUES_DIFFER = "a gradient's values differ"


def _judge(result: GradientResult, got: list[Any], expected: tuple[Any, ...]) -> None:
    result.values = result.meta = result.bits = result.strides = True
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        if e is None and g is None:
            continue
        if g is None and not e.any():
            # An input that the result does not depend on: eager may have zeros.
            continue
        if e is None or g is None:
            result.values = False
            result.reason = result.reason or f"gradient {i}: {_text(g)}; eager: {_text(e)}"
            continue
        if g.dtype != e.dtype or g.shape != e.shape or g.layout != e.layout:
            result.meta = False
            result.reason = result.reason or f"gradient {i}: {_text(g)}; eager: {_text(e)}"
            continue
        if e.layout != torch.strided:
            g, e = g.to_dense(), e.to_dense()
        result.strides &= g.stride() == e.stride()
        result.bits &= bool(torch.allclose(g, e, rtol=0, atol=0, equal_nan=True))
        scale = float(e.abs().nan_to_num(0, 0, 0).max()) if e.numel() else 0
        exact = exactness.with_kernels()
        rtol, atol = (0.0, 0.0) if exact else (1e-10, 1e-12 * max(scale, 1))
        if not torch.allclose(g, e, rtol=rtol, atol=atol, equal_nan=True):
            result.values = False
            result.reason = result.reason or VALUES_DIFFER


def _text(t: torch.Tensor | None) -> str:
    return "None" if t is None else f"{t.dtype} {tuple(t.shape)}"


def _prepared(trace: Any) -> Any:
    """The trace after the passes that come before autodiff."""
    names = itertools.takewhile(lambda name: name != "autodiff", _core.pass_names())
    return _core.run_passes(trace, [name for name in names if name != "transforms"])[0]


def _run(trace: Any, inputs: list[Any]) -> tuple[Any, int]:
    """The results of a trace, and how many regions it has. Saved values are given the
    requires_grad that their types name."""
    if exactness.with_kernels():
        program, regions = exactness.build_program(_prepared(trace))
    else:
        pipeline, regions = _core.Pipeline([]), 0
        claimed = _core.transform_for_execution(_prepared(trace), _core.ClaimReport())
        program = _core.build_program(pipeline.run_last(pipeline.post_optimization(claimed)))

    def on_miss(dispatch: Any, *args: Any) -> Any:
        raise AssertionError("; ".join(dispatch.explain(*args)))

    given = [
        value.detach().requires_grad_(proxy.requires_grad)
        if isinstance(value, torch.Tensor) and proxy.requires_grad != value.requires_grad
        else value
        for value, proxy in zip(inputs, program.trace.inputs, strict=True)
    ]
    dispatch = _core.Dispatch(on_miss)
    dispatch.add(program, (None,) * len(inputs), ())
    return dispatch(*given), regions


def _ways(trace: Any, forward: Any) -> list[str]:
    kept = {b.symbol.name for b in forward.bound_symbols}
    found = set()
    for bsym in trace.bound_symbols:
        symbol = bsym.symbol
        outs = pytree.tree_leaves(bsym.output)
        if not any(isinstance(o, _core.TensorProxy) and o.requires_grad for o in outs):
            continue
        if symbol.name in kept:
            found.add(f"{'vjp' if symbol.has_vjp else 'decomposition'}:{symbol.name}")
        elif symbol.has_augmented:
            found.add(f"augmented:{symbol.name}")
        else:
            found.add(f"decomposition:{symbol.name}")
    return sorted(found)


def _leaves(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for leaf in pytree.tree_leaves(tree):
        wanted = isinstance(leaf, torch.Tensor) and leaf.requires_grad
        if wanted and not any(leaf is other for other in found):
            found.append(leaf)
    return found


def _differentiable(tree: Any) -> list[torch.Tensor]:
    """The distinct results that have a gradient, in order."""
    return _leaves(tree)


def _cotangent(out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random, with the result's own strides, which the trace expects."""
    if out.numel() == 0:
        return torch.empty_strided(out.shape, out.stride(), dtype=out.dtype)
    size = 1 + sum((n - 1) * s for n, s in zip(out.shape, out.stride(), strict=True))
    storage = torch.randn(size, dtype=out.dtype, generator=generator)
    return storage.as_strided(out.shape, out.stride())


def run_in_worker(indices: list[int], limit: int) -> Iterator[tuple[str, GradientResult | str]]:
    """As opdb.run_in_worker."""
    return opdb.run_in_worker(indices, limit, (), __file__, GradientResult)


if __name__ == "__main__":
    opdb.serve(lambda op, limit, _: run_entry(op, limit))
