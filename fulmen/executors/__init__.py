"""The executors that are built in, the registry of all, and the default list."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

from fulmen import _core
from fulmen.errors import UserTypeError, UserValueError
from fulmen.executor import Executor, _registry, check_name
from fulmen.executors import sdpa
from fulmen.executors.llvm import llvm_problem
from fulmen.executors.native import built_in, load_library
from fulmen.executors.reference import ReferenceExecutor, as_python
from fulmen.executors.torch_compile import TorchCompileExecutor

_defaults: list[Executor] | None = None  # None: what FULMEN_EXECUTORS says


for _executor in (
    built_in("aten"), built_in("fusion"), ReferenceExecutor(), TorchCompileExecutor(),
    sdpa.make(), built_in("custom_op"), built_in("products"),
):  # fmt: skip
    _registry[_executor.name] = _executor
_BUILT_IN = tuple(_registry)


def register_executor(ex: Executor) -> Executor:
    """Lets `fulmen.jit(executors=["name"])` find an executor; one of the same name is replaced.

    Raises:
        UserTypeError: not an executor.
        UserValueError: the name of one that is built in.
    """
    if not isinstance(ex, Executor):
        raise UserTypeError(
            f"register_executor(): got {type(ex).__name__}; expected an OperatorExecutor or a "
            "FusionExecutor",
            "executor-type",
        )
    check_name(ex.name)
    if ex.name in _BUILT_IN and _registry[ex.name] is not ex:
        raise UserValueError(
            f"register_executor(): {ex.name!r} is the name of an executor that is built in",
            "executor-name",
        )
    _registry[ex.name] = ex
    return ex


def deregister_executor(ex: Executor | str) -> None:
    """Forgets an executor, and takes it from the default list."""
    found = get_executor(ex) if isinstance(ex, str) else ex
    if found.name in _BUILT_IN:
        raise UserValueError(
            f"deregister_executor(): {found.name!r} is built in; take it from the default "
            "list with remove_default_executor",
            "executor-name",
        )
    remove_default_executor(found)
    _registry.pop(found.name, None)


def get_all_executors() -> tuple[Executor, ...]:
    """Every registered executor."""
    return tuple(_registry.values())


def get_executor(name: str) -> Executor:
    """The executor of that name.

    Raises:
        UserValueError: there is none.
    """
    if name in _registry:
        return _registry[name]
    close = difflib.get_close_matches(str(name), list(_registry), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserValueError(
        f"there is no executor {name!r}; {hint}expected one of "
        f"{', '.join(repr(n) for n in _registry)}",
        "unknown-executor",
    )


def get_default_executors() -> tuple[Executor, ...]:
    """Those that programs are compiled for where `executors=` says nothing, first asked first."""
    if _defaults is not None:
        return tuple(_defaults)
    words = [w.strip() for w in _core.flag_text("executors").split(",")]
    return tuple(get_executor(w) for w in words if w)


def set_default_executors(executors: Sequence[Executor | str]) -> None:
    """Replaces the default list, for functions that are jitted from then on."""
    global _defaults
    _defaults = list(resolve(executors))


def add_default_executor(ex: Executor | str) -> None:
    """Puts an executor at the front of the default list."""
    found = resolve([ex])[0]
    set_default_executors([found, *(e for e in get_default_executors() if e is not found)])


def remove_default_executor(ex: Executor | str) -> None:
    """Takes an executor from the default list, if it is there."""
    found = resolve([ex])[0]
    set_default_executors([e for e in get_default_executors() if e is not found])


def load_plugin(path: str | os.PathLike[str]) -> Executor:
    """Loads kernels from a shared library, and registers them as an executor.

    The library exports what `plugin.h` in `fulmen.extend.include_dir()` says.

    Raises:
        UserValueError: no such library, or of another version of the interface.
    """
    return register_executor(load_library(path))


def resolve(executors: Any) -> tuple[Executor, ...]:
    """Executors given as objects or names.

    Raises:
        UserTypeError: not a list of these.
        UserValueError: a name that there is none of.
    """
    if isinstance(executors, (str, Executor)) or not isinstance(executors, Sequence):
        raise UserTypeError(
            f"got executors={executors!r}; expected a list of executors or their names",
            "executor-type",
        )
    found: list[Executor] = []
    for e in executors:
        if isinstance(e, str):
            e = get_executor(e)
        elif not isinstance(e, Executor):
            raise UserTypeError(
                f"got {type(e).__name__} in executors=; expected an executor or its name",
                "executor-type",
            )
        if e not in found:
            found.append(e)
    return tuple(found)


def make_compilation(
    executors: Sequence[Executor], fuel: _core.Fuel | None = None
) -> _core.Compilation:
    """What a program is compiled for. Executors after "python" are never asked."""
    natives = []
    for e in executors:
        if isinstance(e, ReferenceExecutor):
            break
        if e.name == "fusion" and llvm_problem():
            continue
        natives.append(e.native)
    return _core.make_compilation(natives, fuel)


def transform_for_execution(trace: _core.Trace, executors: Sequence[Executor | str]) -> _core.Trace:
    """The trace with an executor for every bound symbol, and regions of those that fuse."""
    pipeline = _core.Pipeline((), make_compilation(resolve(executors)))
    return pipeline.transform_for_execution(trace, _core.ClaimReport())


def transform_for_operator_executor_execution(
    trace: _core.Trace, executors: Sequence[Executor | str]
) -> _core.Trace:
    """The trace with what these operator executors take claimed; the rest stays as it is."""
    pipeline = _core.Pipeline((), make_compilation(resolve(executors)))
    return pipeline.claim_operators(trace, _core.ClaimReport())


def runs_as_python(executors: Sequence[Executor]) -> bool:
    """Whether what is left to the last executors runs as a printed program."""
    return any(isinstance(e, ReferenceExecutor) for e in executors)


__all__ = [
    "add_default_executor", "as_python", "deregister_executor", "get_all_executors",
    "get_default_executors", "get_executor", "llvm_problem", "load_plugin", "make_compilation",
    "register_executor", "remove_default_executor", "resolve", "runs_as_python",
    "set_default_executors", "transform_for_execution",
    "transform_for_operator_executor_execution",
]  # fmt: skip
