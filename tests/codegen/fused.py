"""Programs run by generated kernels, compared with eager PyTorch and with float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.trace import trace_call


@dataclass
class Fused:
    """A program with every operation that kernels can run in regions.

    Attributes:
        outputs: what it gave.
        regions: how many kernels it has.
        others: names of the operations that are in no region.
        notes: why regions were refused.
        trace: the program with its regions.
    """

    outputs: list[Any]
    regions: int
    others: list[str]
    notes: list[str]
    trace: _core.Trace


def run_fused(fn: Callable[..., Any], args: Any, kwargs: Any = None) -> Fused:
    trace, _, inputs = trace_call(fn, args, kwargs or {})
    pipeline = _core.Pipeline(())
    with_regions = pipeline.fuse(pipeline.run(trace), single=True)
    claimed = _core.transform_for_execution(with_regions, _core.ClaimReport())
    program = _core.build_program(pipeline.run_last(claimed))
    dispatch = _core.Dispatch(lambda *a: None)
    dispatch.add(program, (None,) * len(inputs), ())
    names = [b.symbol.name for b in with_regions.bound_symbols]
    return Fused(
        pytree.tree_leaves(dispatch(*inputs)),
        sum(n.startswith("fusion") for n in names),
        [n for n in names if not n.startswith("fusion")],
        [text for _, text in pipeline.notes],
        with_regions,
    )


def widened(tree: Any) -> Any:
    """Floating-point tensors in float64."""

    def wide(x: Any) -> Any:
        return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    return pytree.tree_map(wide, tree)


def difference(got: Any, eager: Any, exact: Any, magnitude: float, ulps: float = 4.0) -> str:
    """How a result differs from eager's; empty if it is as good.

    Metadata, non-finite values, integers and truth values must be eager's. Real numbers must be as
    close to float64's result as eager's, or within a few units in the last place: of the result or,
    as terms of a sum may cancel, of the largest argument.
    """
    if not isinstance(eager, torch.Tensor):
        return "" if got == eager else f"got {got}, eager {eager}"
    for attribute in ("dtype", "shape"):
        if getattr(got, attribute) != getattr(eager, attribute):
            return f"{attribute}: got {getattr(got, attribute)}, eager {getattr(eager, attribute)}"
    if got.stride() != eager.stride():
        return f"strides: got {got.stride()}, eager {eager.stride()}"
    if not eager.is_floating_point():
        wrong = got != eager
        return f"{int(wrong.sum())} values differ" if bool(wrong.any()) else ""
    for what, of in (("NaN", torch.isnan), ("infinities", torch.isinf)):
        if not torch.equal(of(got), of(eager)):
            return f"{what} at other places"
    finite = torch.isfinite(eager)
    got, eager = got[finite], eager[finite]
    if torch.equal(got, eager):
        return ""
    if not isinstance(exact, torch.Tensor) or exact.shape != finite.shape:
        return "values differ, and float64 gives no result to compare with"
    exact = exact[finite].double()
    ours, theirs = (got.double() - exact).abs(), (eager.double() - exact).abs()
    info = torch.finfo(got.dtype)
    allowed = theirs.max() * 2 + ulps * info.eps * exact.abs().clamp(max=info.max) + info.tiny
    allowed = allowed + 2 * info.eps * magnitude
    if got.dtype == torch.float64:
        # The reference is no better than the result: the size of all values counts.
        allowed = allowed + 64 * info.eps * exact.abs().max()
    worse = ours > allowed
    if not bool(worse.any()):
        return ""
    at = int(torch.where(worse, ours / (allowed + 1e-300), 0.0).argmax())
    return (
        f"{int(worse.sum())} values are worse than eager's: got {got[at].item()}, "
        f"eager {eager[at].item()}, float64 {exact[at].item()}"
    )


def compare(fn: Callable[..., Any], args: Any, kwargs: Any = None) -> tuple[Fused, str]:
    """Runs all three; the fused program, and the first difference."""
    kwargs = kwargs or {}
    eager = pytree.tree_leaves(fn(*args, **kwargs))
    try:
        exact = pytree.tree_leaves(fn(*widened(args), **widened(kwargs)))
    except Exception:
        exact = [None] * len(eager)
    fused = run_fused(fn, args, kwargs)
    if len(fused.outputs) != len(eager):
        return fused, f"{len(fused.outputs)} results, eager has {len(eager)}"
    if len(exact) != len(eager):
        exact = [None] * len(eager)
    real = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    sizes = [x.abs()[torch.isfinite(x)] for x in real if x.is_floating_point()]
    magnitude = max((x.max().item() for x in sizes if x.numel()), default=0.0)
    for got, theirs, reference in zip(fused.outputs, eager, exact, strict=True):
        problem = difference(got, theirs, reference, magnitude)
        if problem:
            return fused, problem
    return fused, ""
