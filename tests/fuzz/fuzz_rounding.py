"""Judges results of generated kernels by what rounding does to eager's.

Kernels add in another order than eager and have functions of their own. How much that may change
is measured: eager runs a program again while each input, and each result of an operation that
rounds, is moved by units in the last place, up or down at random. So float64, numbers that are
drawn, and conversions that a program asks for need no wider type.

A result may be twice as far from eager's as those of the moved runs are, or as eager's are from the
program's in float64 where these are not larger. Truth values, integers, NaN and infinities must be
eager's, or what a moved run or the one in float64 gives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fuzz_program import Program

Tensor = torch.Tensor
EXECUTORS = ("products", "fusion")
FEW_DRAWS, DRAWS = 6, 60
FACTOR = 2.0
# Operators of ATen that give elements of their arguments, or numbers that are not rounded.
EXACT = frozenset(
    "abs amax amin arange bernoulli cat ceil clamp clone constant_pad_nd copy diagonal_backward"
    " empty empty_like empty_strided fill flip floor full full_like gather index index_fill"
    " index_put index_select masked_fill masked_scatter max maximum min minimum neg new_empty"
    " new_empty_strided new_zeros normal ones ones_like rand rand_like randn randn_like relu repeat"
    " roll round scalar_tensor scatter select_backward sign slice_backward sort stack"
    " threshold_backward topk tril triu trunc uniform where zero zeros zeros_like _to_copy"
    " _unsafe_view".split()
)


class Moved(TorchDispatchMode):
    """Moves what operations round."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        schema = func._schema
        if schema.name.split("::")[1].rstrip("_") in EXACT:
            return out
        aliases = [r.alias_info for r in schema.returns if r.alias_info is not None]
        if all(a.is_write for a in aliases):  # else a view
            for t in pytree.tree_leaves(out):
                if isinstance(t, Tensor):
                    move(t, self.generator)
        return out


@contextlib.contextmanager
def rounding(generator: torch.Generator | None) -> Iterator[None]:
    """Moves what operations round, or without a generator has them make float64 of integers."""
    if generator:
        with Moved(generator):
            yield
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def _real(t: Tensor) -> Tensor:
    return torch.view_as_real(t.resolve_conj().resolve_neg()) if t.is_complex() else t


def move(t: Tensor, generator: torch.Generator) -> None:
    """Each element off by units in the last place, in place."""
    t = t if t.is_conj() or t.is_neg() else _real(t)
    if not t.is_floating_point() or t._is_zerotensor() or not t.numel() or 0 in t.stride():
        return
    units = 2 if t.dtype in (torch.float32, torch.float64) else 1
    signs = torch.randint(0, 2, t.shape, generator=generator) * 2 - 1
    t.mul_((1 + signs.double() * units * torch.finfo(t.dtype).eps).to(t.dtype))


def move_all(tensors: list[Tensor], generator: torch.Generator | None) -> None:
    """Moves inputs, each storage once; none without a generator."""
    if generator is None:
        return
    storages = set()
    for t in sorted(tensors, key=lambda t: -t.numel()):
        storage = t.untyped_storage()._cdata
        if storage not in storages:
            storages.add(storage)
            move(t.data, generator)


def in_double(program: Program) -> Program:
    """The program in float64, from inputs that are rounded as its own are."""
    lower = r"torch\.(?:bfloat16|float16|float32)"
    drawn = re.compile(rf"(\(.*?{lower}(?:, generator=g)?\))")

    def wide(text: str) -> str:
        text = re.sub(lower, "torch.float64", text)
        return re.sub(r"\.(?:float|bfloat16|half)\(\)", ".double()", text)

    return dataclasses.replace(
        program,
        inputs=tuple(drawn.sub(r"\1.double()", x) for x in program.inputs),
        state=program.state
        and tuple(re.sub(rf"({lower}, generator=g\))", r"\1.double()", x) for x in program.state),
        body=tuple(wide(x) for x in program.body),
    )


class Judge:
    """Tells rounding from differences.

    Attributes:
        program: the program.
        again: the tensors by name of a run of a program in eager, moved by a generator if given.
    """

    def __init__(
        self,
        program: Program,
        again: Callable[[Program, torch.Generator | None], dict[str, Tensor]],
    ) -> None:
        self.program = program
        self.again = again
        self.moved: list[dict[str, Tensor]] = []

    def __call__(self, name: str, ours: Tensor, eager: Tensor) -> bool:
        """Whether two values of the tensor `name` are the same but for rounding."""
        ours, eager = ours.detach(), eager.detach()
        if ours.shape != eager.shape or ours.dtype != eager.dtype:
            return False
        ours, eager = _real(ours), _real(eager)
        for draws in (0, FEW_DRAWS, DRAWS):
            while len(self.moved) < draws:
                generator = torch.Generator().manual_seed(len(self.moved))
                self.moved.append(self._draw(generator))
            near = [_real(m[name].detach()) for m in self.moved[:draws] if name in m]
            near = [m for m in near if m.shape == eager.shape]
            if draws and len(near) < draws:
                return True  # rounding decides which way the program goes
            exact = self._draw(None).get(name) if draws == DRAWS else None
            if _is_near(ours, eager, near, None if exact is None else _real(exact.detach())):
                return True
        return False

    def _draw(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        state = torch.get_rng_state()
        try:
            return self.again(self.program if generator else in_double(self.program), generator)
        finally:
            torch.set_rng_state(state)


def _most_up_to(sizes: Tensor, errors: Tensor) -> Tensor:
    """For each element the largest error of those that are at most twice its size."""
    flat = sizes.flatten()
    order = flat.argsort()
    most = errors.flatten()[order].cummax(0).values
    found = torch.searchsorted(flat[order], 2 * flat, right=True)
    return most[found - 1].reshape(sizes.shape)


def _is_near(ours: Tensor, eager: Tensor, near: list[Tensor], exact: Tensor | None) -> bool:
    same = (ours == eager) | ((ours != ours) & (eager != eager))
    if bool(same.all()) or not near:
        return bool(same.all())
    for m in near:
        same = same | (ours == m) | ((ours != ours) & (m != m))
    if not eager.is_floating_point():
        return bool((same if exact is None else same | (ours == exact)).all())
    a, b = ours.double(), eager.double()
    spread = torch.zeros(b.shape, dtype=torch.float64)
    for m in near:
        # Where eager gives a number or none as rounding falls, so may we.
        same = same | (m.isfinite() != eager.isfinite())
        spread = torch.maximum(spread, (m.double() - b).abs().nan_to_num(0, 0, 0))
    allowed = FACTOR * spread + torch.finfo(eager.dtype).tiny
    if eager.dtype == torch.float64:
        # How far eager's are from what they should be is not known.
        largest = torch.where(b.isfinite(), b, 0.0).abs().max()
        allowed = allowed.clamp(min=64 * torch.finfo(torch.float64).eps * float(largest))
    elif exact is not None and exact.shape == eager.shape:
        true = exact.double()
        errors = (b - true).abs().nan_to_num(0, 0, 0)
        most = FACTOR * _most_up_to(true.abs().nan_to_num(), errors)
        same = same | (a == true) | ((a - true).abs() <= most)
    return bool((same | (b.isfinite() & ((a - b).abs() <= allowed))).all())
