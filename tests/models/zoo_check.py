"""A compiled model against eager, call by call: values, types, caches, state, programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen.stats import Stats
from value_reads import value_reads
from zoo_row import Call, Inputs

# model → (compiled model, function that returns its Stats).
Compile = Callable[[torch.nn.Module], tuple[Callable[..., Any], Callable[[], Any]]]
# (result, keyword arguments, number of the call) → what the call returns.
Change = Callable[[Any, Inputs, int], Any]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def check_calls(
    build: Callable[[], torch.nn.Module], calls: Sequence[Call], compile_model: Compile
) -> None:
    """Makes the same calls of an eager and of a compiled model.

    The result, the arguments, the random state and what the modules hold afterwards must be
    eager's, bit by bit. A program is compiled exactly where the call says so, and nothing is split
    off.
    """
    plain, model = build(), build()
    compiled, stats = compile_model(model)
    misses = 0
    reads: dict[str, list[str]] = {}
    results: dict[str, Any] = {}
    with torch.no_grad():
        for number, call in enumerate(calls):
            with value_reads() as reads[call.label]:
                expected, expected_inputs, expected_random = _run(plain, call)
            got, got_inputs, got_random = _run(compiled, call)
            assert_same_tree(got, expected, call.label)
            assert_same_tree(got_inputs, expected_inputs, f"{call.label}: arguments")
            assert_same_tree(_state(model), _state(plain), f"{call.label}: state")
            assert torch.equal(got_random, expected_random), f"{call.label}: random numbers drawn"
            misses += call.compiles
            now = stats()
            if call.unlike and reads[call.label] != reads[call.unlike]:
                assert now.cache_misses >= misses
                misses = now.cache_misses
            assert now.splits == {}, f"{call.label}: split off: {now.splits}"
            assert now.cache_misses == misses, (
                f"{call.label}: {now.cache_misses} programs, not {misses}: {now.recompiles}"
            )
            assert now.calls == number + 1, f"{call.label}: {now.calls} calls counted"
            if call.unlike:
                assert not _equal_trees(expected, results[call.unlike]), (
                    f"{call.label}: eager's result does not depend on the inputs"
                )
            results[call.label] = expected


class PassThrough:
    """A front end that runs eager, may `change` the result, and counts a program a signature."""

    def __init__(
        self, model: torch.nn.Module, change: Change = lambda result, inputs, number: result
    ) -> None:
        self.model = model
        self.change = change
        self.stats = Stats()
        self.signatures: set[str] = set()

    def __call__(self, **inputs: Any) -> Any:
        leaves, structure = pytree.tree_flatten(inputs)
        shapes = [leaf.shape if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.signatures.add(f"{structure} {shapes}")
        self.stats.cache_misses = len(self.signatures)
        self.stats.calls += 1
        return self.change(self.model(**inputs), inputs, self.stats.calls)


def _run(model: Callable[..., Any], call: Call) -> tuple[Any, Inputs, torch.Tensor]:
    inputs = call.inputs()
    torch.manual_seed(0)
    return model(**inputs), inputs, torch.get_rng_state()


def _state(model: torch.nn.Module) -> dict[str, Any]:
    """What a call may leave in a module: attributes that are tensors or plain values."""
    return {
        f"{name}.{key}": value
        for name, module in model.named_modules()
        for store in (vars(module), module._parameters, module._buffers)
        for key, value in store.items()
        if isinstance(value, (torch.Tensor, *_PLAIN))
    }


def assert_same_tree(got: Any, expected: Any, path: str) -> None:
    """Equal classes, keys, plain values, and tensors bit by bit with their metadata, all the way
    through containers and objects such as caches."""
    for where, a, b in _pairs(got, expected, path, set()):
        if not isinstance(b, torch.Tensor):
            assert a == b or (a != a and b != b), f"{where}: got {a!r}, eager {b!r}"
            continue
        for attribute in ("dtype", "shape", "device", "requires_grad"):
            mine, eager = getattr(a, attribute), getattr(b, attribute)
            assert mine == eager, f"{where}: {attribute}: got {mine}, eager {eager}"
        assert a.stride() == b.stride(), f"{where}: strides: got {a.stride()}, eager {b.stride()}"
        assert _same_bits(a, b), f"{where}: values differ by at most {_distance(a, b)}"


def _equal_trees(a: Any, b: Any) -> bool:
    try:
        assert_same_tree(a, b, "")
    except AssertionError:
        return False
    return True


def _pairs(got: Any, expected: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of both trees, side by side."""
    assert type(got) is type(expected), f"{path}: got {type(got)}, eager {type(expected)}"
    if isinstance(expected, (torch.Tensor, *_PLAIN)):
        yield path, got, expected
        return
    if id(expected) in seen or got is expected:
        return
    seen.add(id(expected))
    if isinstance(expected, dict):
        mine, eager = list(got), list(expected)
        assert mine == eager, f"{path}: keys: got {mine}, eager {eager}"
        for key in expected:
            yield from _pairs(got[key], expected[key], f"{path}[{key!r}]", seen)
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected), f"{path}: got {len(got)} items, eager {len(expected)}"
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            yield from _pairs(a, b, f"{path}[{i}]", seen)
    if hasattr(expected, "__dict__") and not isinstance(expected, type):
        mine, eager = sorted(vars(got)), sorted(vars(expected))
        assert mine == eager, f"{path}: attributes: got {mine}, eager {eager}"
        for name in eager:
            yield from _pairs(vars(got)[name], vars(expected)[name], f"{path}.{name}", seen)


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits, but for the sign and payload of NaNs."""
    if not b.is_floating_point():
        return torch.equal(a, b)
    nan = b.isnan()
    return bool(
        torch.equal(a.isnan(), nan)
        and torch.equal(a.masked_fill(nan, 0), b.masked_fill(nan, 0))
        and torch.equal(a.signbit() & ~nan, b.signbit() & ~nan)
    )


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    if b.dtype == torch.bool:
        return float((a ^ b).any())
    return (a.double() - b.double()).abs().max().item()
