"""Results of generated kernels, judged by how far they are from float64.

With FULMEN_EXECUTORS=fusion the tests of this folder run everything that kernels can compute in
regions, single operations as well. Kernels add in another order than eager and have functions of
their own, so bits may differ where real numbers are rounded, and nowhere else. Such an element
passes where its distance from float64's is at most
- twice eager's: of elements of the result that are not larger than twice this one, for these
  arguments and for others that differ from them in the last place, or
- twice as far as float64's own moves with the last places of the arguments, which shows where terms
  cancel, or
- a few units in its last place.
Metadata, truth values, integers, NaN and infinities are eager's, as always; but where eager
overflows on the way to a number, as float16 does, the number may be given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import _core, executors

# Units in the last place that a chain of a few operations may lose.
ULPS = 4
# Arguments that are moved at random, to see what depends on their last places.
DRAWS = 24
WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex32: torch.complex128,
    torch.complex64: torch.complex128,
}


def with_kernels() -> bool:
    """Whether these tests are to run generated kernels."""
    return "fusion" in os.environ.get("FULMEN_EXECUTORS", "").split(",")


def build_program(trace: _core.Trace) -> tuple[_core.Program, int]:
    """The program of a trace, in which kernels run all that they can, and how many regions it
    has."""
    problem = executors.llvm_problem()
    assert not problem, problem
    pipeline = _core.Pipeline(())
    regions = pipeline.fuse(pipeline.run(trace), single=True)
    claimed = pipeline.reuse(pipeline.transform_for_execution(regions, _core.ClaimReport()))
    program = _core.build_program(pipeline.run_last(pipeline.post_optimization(claimed)))
    return program, str(regions).count("def fusion")


def widened(tree: Any) -> Any:
    """Real and complex tensors, and dtypes, in double precision."""

    def wide(value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return WIDER.get(value, value)
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return value
        if value.dtype not in WIDER:
            return value
        return _in_layout_of(value, value.detach().to(WIDER[value.dtype]))

    return pytree.tree_map(wide, tree)


def moved(tree: Any, generator: torch.Generator) -> Any:
    """Each element of real tensors one unit in the last place off, up or down."""

    def move(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            return value
        if not value.is_floating_point() or value.dtype.itemsize == 1:
            return value
        signs = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
        step = (signs * torch.finfo(value.dtype).eps).to(value.dtype)
        return _in_layout_of(value, value.detach() * (1 + step))

    return pytree.tree_map(move, tree)


def _in_layout_of(like: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    if t.stride() != like.stride() and 0 not in like.stride():
        t = torch.empty_strided(like.shape, like.stride(), dtype=t.dtype).copy_(t)
    return t.requires_grad_(like.requires_grad)


def in_double(run: Callable[[Any], Any], given: Any) -> Any:
    """The leaves of what `run` gives for `given` in double precision, integers promoted to that as
    well; None where it can't."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return pytree.tree_leaves(run(widened(given)))
    except Exception:
        return None
    finally:
        torch.set_default_dtype(default)


@dataclass
class Rounding:
    """What rounding does to one result near the arguments given.

    Attributes:
        eager: how far each element of eager's is from float64's, at most.
        spread: how far each element of float64's moves, at most.
    """

    eager: torch.Tensor
    spread: torch.Tensor


def rounding(run: Callable[[Any], Any], given: Any, exact: list[Any]) -> list[Rounding | None]:
    """Of each result, from arguments that are moved by one unit in the last place."""
    generator = torch.Generator().manual_seed(7)
    found: list[Rounding | None] = [None] * len(exact)
    for _ in range(DRAWS):
        near = moved(given, generator)
        wide = in_double(run, near)
        if wide is None or len(wide) != len(exact):
            continue
        try:
            eager = pytree.tree_leaves(run(near))
        except Exception:
            continue  # an argument that must be on a grid: no other one is near
        for i, (theirs, there, here) in enumerate(zip(eager, wide, exact, strict=True)):
            shapes = {t.shape for t in (theirs, there, here) if isinstance(t, torch.Tensor)}
            if len(shapes) != 1 or not isinstance(here, torch.Tensor) or not here.numel():
                continue
            error = (theirs.detach().double() - there.detach().double()).abs()
            spread = (there.detach().double() - here.detach().double()).abs()
            error, spread = (t.nan_to_num(0.0, 0.0, 0.0) for t in (error, spread))
            if (known := found[i]) is not None:
                error, spread = (
                    torch.maximum(known.eager, error),
                    torch.maximum(known.spread, spread),
                )
            found[i] = Rounding(error, spread)
    return found


def difference(
    got: Any,
    eager: Any,
    run: Callable[[Any], Any],
    given: Any,
    precision: torch.dtype | None = None,
) -> str:
    """How `got` differs from what `run` of `given` gave in eager, beyond rounding; or nothing.

    Metadata are compared elsewhere. `run` must seed what it draws, and leave `given` alone.
    `precision`: the type in which it computes, where that is not the least precise of its
    arguments and results.
    """
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(eager)
    exact = in_double(run, given)
    if exact is None or len(exact) != len(b) or len(a) != len(b):
        return "values differ, and there is no result in float64"
    # Computed in the least precise of these types: out= may be a wider one.
    tensors = [t for t in [*pytree.tree_leaves(given), *b] if isinstance(t, torch.Tensor)]
    dtypes = [t.dtype if t.is_floating_point() else torch.get_default_dtype() for t in tensors]
    eps = max(torch.finfo(t).eps for t in [*dtypes, *([precision] if precision else [])])
    near: list[Rounding | None] = []
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if not isinstance(y, torch.Tensor) or _same(x, y):
            continue
        if not y.is_floating_point() or y.layout != torch.strided:
            return "values differ that are not rounded"
        near = near or rounding(run, given, exact)
        problem = _further_off(x, y, exact[i], near[i], eps)
        if problem:
            return problem
    return ""


def _same(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.shape == y.shape and torch.allclose(x, y, rtol=0, atol=0, equal_nan=True)


def _most_up_to(sizes: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """For each element the largest error of those that are at most twice its size."""
    order = sizes.argsort()
    found = torch.searchsorted(sizes[order], 2 * sizes, right=True)
    return errors[order].cummax(0).values[found - 1] if len(sizes) else errors


def _further_off(
    got: torch.Tensor, eager: torch.Tensor, exact: Any, near: Rounding | None, eps: float
) -> str:
    got, eager = got.detach(), eager.detach()
    if got.shape != eager.shape:
        return f"values differ: shape {tuple(got.shape)}, eager {tuple(eager.shape)}"
    if not isinstance(exact, torch.Tensor) or exact.shape != eager.shape:
        return "values differ, and float64 gives no result to compare with"
    exact = exact.detach()
    # Where eager overflows on the way to a number, a number is nearer.
    fits = exact.isfinite() & (exact.abs() <= torch.finfo(eager.dtype).max)
    nearer = fits & ~eager.isfinite() & got.isfinite()
    for what, of in (("NaN", torch.isnan), ("infinities", torch.isinf)):
        if not torch.equal(of(got) & ~nearer, of(eager) & ~nearer):
            return f"values differ: {what} at other places"
    finite = torch.isfinite(eager) & torch.isfinite(exact)
    eager_dtype = eager.dtype
    got, eager, true = got[finite].double(), eager[finite].double(), exact[finite].double()
    ours, theirs = (got - true).abs(), (eager - true).abs()
    smallest = torch.finfo(torch.float32).smallest_normal if eps > 1e-10 else 0.0
    allowed = ULPS * eps * true.abs().clamp(min=smallest)
    if near:
        theirs = torch.maximum(theirs, near.eager[finite])
        allowed = torch.maximum(allowed, 2 * near.spread[finite])
    allowed = torch.maximum(allowed, 2 * _most_up_to(true.abs(), theirs))
    if theirs.numel() and exact.dtype == eager_dtype:
        # Eager's own distance is not known: the size of all values stands for it.
        allowed = allowed.clamp(min=64 * eps * true.abs().max().item())
    worse = ours > allowed
    if not bool(worse.any()):
        return ""
    at = int((ours / (allowed + 1e-300)).argmax())
    return (
        f"{int(worse.sum())} values differ by more than rounding: got {got[at].item()!r}, eager "
        f"{eager[at].item()!r}, float64 {true[at].item()!r}, allowed {allowed[at].item():.3g}"
    )
