"""The reference executor: runs a program as the Python text that it prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.executor import Executor, python_callable
from fulmen.executors.native import built_in


class ReferenceExecutor(Executor):
    """Everything that the executors before it leave becomes one call of a Python function."""

    def __init__(self) -> None:
        super().__init__("python", built_in("aten").native)


def as_python(trace: _core.Trace) -> _core.Trace:
    """A trace that calls the printed program."""
    program = python_callable(trace)
    inputs = {id_of(p) for p in trace.inputs}
    leaves, _ = pytree.tree_flatten(trace.output)
    wanted: list[int] = []
    for i, leaf in enumerate(leaves):
        if id_of(leaf) is not None and id_of(leaf) not in inputs:
            inputs.add(id_of(leaf))
            wanted.append(i)

    def run(*args: Any) -> tuple[Any, ...]:
        results = pytree.tree_leaves(program(*args))
        return tuple(results[i] for i in wanted)

    call: Callable[..., Any] = run
    return _core.call_python(trace, call)


def id_of(value: Any) -> int | None:
    """The identity of a proxy; None for other values."""
    proxy = isinstance(value, (_core.TensorProxy, _core.NumberProxy, _core.ObjectProxy))
    return value.proxy_id if proxy else None
