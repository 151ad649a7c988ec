"""Runs a program in eager and compiled, and compares all that a caller can see."""

from __future__ import annotations

import collections
import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from fuzz_rounding import EXECUTORS, Judge, move_all, rounding

import fulmen
from fuzz_program import Program, load

Tensor = torch.Tensor
# Whether ours and eager's values of a named tensor are the same.
Same = Callable[[str, Tensor, Tensor], bool]
SEEDS = (11, 11, 12)  # of the calls: the first compiles, the next ones find a program
# Of gradients, relative to the largest: rules may sum in another order than PyTorch's.
# By what the text of a program names; the coarsest counts.
TOLERANCES = (("bfloat16", 5e-2), ("float32", 2e-5), ("float()", 2e-5), ("float64", 1e-11))


@dataclasses.dataclass(frozen=True)
class Failure:
    """A difference from eager.

    Attributes:
        kind: what differs, in a word; a reduced program has to fail in the same way.
        detail: where, and both sides.
    """

    kind: str
    detail: str


@dataclasses.dataclass
class Call:
    """What one call, and the backward of its results, did."""

    result: Any = None
    error: Exception | None = None
    backward_error: Exception | None = None
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    known: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    before: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    state: Tensor | None = None


def _flat(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for i, x in value.items() for k, v in _flat(x, f"{name}[{i}]").items()}
    if isinstance(value, (tuple, list)):
        return {k: v for i, x in enumerate(value) for k, v in _flat(x, f"{name}[{i}]").items()}
    return {name: value}


def _call(function: Any, given: tuple[dict[str, Any], tuple[Any, ...]], module: Any) -> Call:
    scope, args = given
    call = Call()
    call.known = {n: v for n, v in scope.items() if isinstance(v, Tensor)}
    if isinstance(module, torch.nn.Module):
        call.known |= dict(module.named_parameters(remove_duplicate=False))
        call.known |= dict(module.named_buffers(remove_duplicate=False))
    call.before = {n: v.detach().clone() for n, v in call.known.items()}
    torch.manual_seed(3)
    try:
        call.result = function(*args)
    except Exception as e:
        call.error = e
    call.state = torch.get_rng_state()
    results = _flat(call.result, "result") if call.error is None else {}
    call.tensors = call.known | results
    return call


def _differentiable(call: Call) -> list[str]:
    """The tensors whose sum is the loss."""
    found: dict[int, str] = {}
    for name, v in call.tensors.items():
        if isinstance(v, Tensor) and v.requires_grad and _is_leaf(v) is False:
            found.setdefault(id(v), name)
    return list(found.values())


def _backward(call: Call, names: list[str]) -> None:
    g = torch.Generator().manual_seed(5)
    total = []
    for name in names:
        v = call.tensors[name]
        weight = torch.randn(v.shape, generator=g, dtype=torch.float64).to(v.dtype)
        total.append((v * weight).sum().double())
    try:
        if total:
            torch.stack(total).sum().backward()
    except Exception as e:
        call.backward_error = e


def _same_bits(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach(), b.detach()
    if a.shape != b.shape:
        return False
    return torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _aliases(call: Call) -> dict[str, tuple[str, str, str]]:
    """For each tensor: the first that is the same, that shares its storage, and is its base.

    The offset counts where another tensor is there to tell.
    """
    found = {}
    tensors = {n: v for n, v in call.tensors.items() if isinstance(v, Tensor)}
    for name, v in tensors.items():
        same = next(n for n, o in tensors.items() if o is v)
        storage = ""
        if v.numel():
            cdata = v.untyped_storage()._cdata
            storage = next(n for n, o in tensors.items() if o.untyped_storage()._cdata == cdata)
        base = v._base
        # Which of two results is the base of the other is for the program to choose.
        bases = call.known
        on = next((n for n, o in bases.items() if o is base), "") if v._is_view() else ""
        offset = v.storage_offset() if storage not in ("", name) else 0
        found[name] = (same, f"{storage}+{offset}", on)
    return found


def _is_leaf(v: Tensor) -> bool | str:
    try:
        return v.is_leaf
    except RuntimeError as e:  # a view made without grad mode whose base was then written
        return str(e)


def _meta(v: Tensor) -> dict[str, Any]:
    return {
        "dtype": v.dtype,
        "shape": tuple(v.shape),
        "strides": v.stride(),
        "requires_grad": v.requires_grad,
        "is_leaf": _is_leaf(v),
        "class": type(v),
    }


def _compare(mine: Call, theirs: Call, compiled: bool, same: Same) -> Failure | None:
    if (mine.error is None) != (theirs.error is None):
        return Failure("error", f"{mine.error!r}, eager: {theirs.error!r}")
    if theirs.error is not None and not isinstance(mine.error, type(theirs.error)):
        return Failure("error type", f"{mine.error!r}, eager: {theirs.error!r}")
    if theirs.error is not None and compiled:
        # A program writes to its inputs at its end: what raises inside of it leaves them.
        return None
    for name, b in theirs.tensors.items():
        a = mine.tensors.get(name)
        if type(a) is not type(b):
            return Failure("type", f"{name}: {type(a)}, eager: {type(b)}")
        if not isinstance(b, Tensor):
            if a != b:
                return Failure("number", f"{name}: {a}, eager: {b}")
            continue
        ours, wanted = _meta(a), _meta(b)
        for key in ours:
            if key == "strides" and not b.numel():
                continue  # nobody can tell
            # A view that was written in a forbidden way has no state in eager.
            if ours[key] != wanted[key] and not isinstance(wanted[key], str):
                return Failure(key, f"{name}: {ours[key]}, eager: {wanted[key]}")
        if not same(name, a, b):
            return Failure("value", f"{name}: {a.detach()}, eager: {b.detach()}")
        # A write that leaves the value as it was may go.
        written = name in theirs.known and not _same_bits(b, theirs.before[name])
        if written and a._version == 0 < b._version:
            return Failure("version", f"{name}: {a._version}, eager: {b._version}")
    aliases, wanted_aliases = _aliases(mine), _aliases(theirs)
    if aliases != wanted_aliases:
        differing = [n for n in aliases if aliases[n] != wanted_aliases[n]]
        n = differing[0]
        return Failure("alias", f"{n}: {aliases[n]}, eager: {wanted_aliases[n]}")
    if not torch.equal(mine.state, theirs.state):
        return Failure("random state", "after the call")
    return None


def _compare_gradients(mine: Call, theirs: Call, same: Same) -> Failure | None:
    if mine.backward_error is not None:
        return Failure("backward error", repr(mine.backward_error))
    for name, v in theirs.known.items():
        if _is_leaf(v) is not True:
            continue
        a, b = mine.known[name].grad, v.grad
        if (a is None) != (b is None):
            return Failure("gradient is None", f"{name}: {a}, eager: {b}")
        if a is None or b is None:
            continue
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return Failure("gradient's type", f"{name}: {a.dtype}, eager: {b.dtype}")
        if not same(f"{name}.grad", a, b):
            return Failure("gradient", f"{name}: {a}, eager: {b}")
    return None


def _within(tolerance: float, a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().nan_to_num(0, 0, 0).max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * max(scale, 1.0), equal_nan=True)


def _state(function: Any) -> list[Tensor]:
    is_module = isinstance(function, torch.nn.Module)
    return [*function.parameters(), *function.buffers()] if is_module else []


def _judge(program: Program, seeds: tuple[int, ...]) -> Judge:
    """Of the last of some calls, before which come the others."""

    def again(program: Program, generator: torch.Generator | None) -> dict[str, Tensor]:
        make_function, make_inputs = load(program.text(), "fuzz")
        function = make_function()
        move_all(_state(function), generator)
        for seed in seeds:
            scope, args = make_inputs(seed, function)
            move_all([v for v in scope.values() if isinstance(v, Tensor)], generator)
            with rounding(generator):
                call = _call(function, (scope, args), function)
                if call.error is None:
                    _backward(call, _differentiable(call))
        found = {n: v for n, v in call.tensors.items() if isinstance(v, Tensor)}
        leaves = {n: v for n, v in call.known.items() if _is_leaf(v) is True}
        return found | {f"{n}.grad": v.grad for n, v in leaves.items() if v.grad is not None}

    return Judge(program, again)


def check(
    program: Program, count: collections.Counter[str] | None = None, kernels: bool = False
) -> Failure | None:
    """The first difference from eager, if any; `count` gets what the program was.

    With kernels differences must be of rounding, else there is none but in gradients.
    """
    count = count if count is not None else collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _check(program, count, kernels)


check_kernels = functools.partial(check, kernels=True)


def _check(program: Program, count: collections.Counter[str], kernels: bool) -> Failure | None:
    text = program.text()
    tolerance = next((t for word, t in TOLERANCES if word in text), TOLERANCES[1][1])
    make_function, make_inputs = load(text, "fuzz")
    plain, compiled = make_function(), make_function()
    jitted = fulmen.jit(compiled, cache=program.cache, executors=EXECUTORS if kernels else ())
    comparable = True
    for number, seed in enumerate(SEEDS):
        wanted = _call(plain, make_inputs(seed, plain), plain)
        try:
            mine = _call(jitted, make_inputs(seed, compiled), compiled)
        except BaseException as e:  # panics of the core are no Exception
            return Failure("crash", repr(e))
        if isinstance(mine.error, fulmen.InternalError):
            return Failure("internal error", str(mine.error))
        same: Same = lambda _, a, b: _same_bits(a, b)  # noqa: E731
        near: Same = lambda _, a, b: _within(tolerance, a, b)  # noqa: E731
        if kernels:
            same = near = _judge(program, SEEDS[: number + 1])
        found = _compare(mine, wanted, fulmen.stats(jitted).cache_misses > 0, same)
        if found is None and wanted.error is None and comparable:
            names = _differentiable(wanted)
            _backward(wanted, names)
            if wanted.backward_error is None:
                _backward(mine, names)
                found = _compare_gradients(mine, wanted, near)
                count["backward"] += any(v.grad is not None for v in wanted.known.values())
            else:
                # An in-place operation has spoilt what a gradient needs: eager has none.
                comparable = False
                _backward(mine, names)
                count["backward fails in eager alone"] += mine.backward_error is None
                count["backward fails in eager"] += 1
        count["raises in eager"] += wanted.error is not None
        if found is not None:
            return Failure(found.kind, f"call {number}: {found.detail}")
    stats = fulmen.stats(jitted)
    count["left to eager"] += "the whole function" in stats.splits
    count["cache hits"] += stats.cache_hits > 0
    count["kernels"] += "fusion" in stats.kernels
    count["programs"] += 1
    return None
