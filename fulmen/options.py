"""The options of `fulmen.jit`, and what they may be."""

from __future__ import annotations

import dataclasses
import difflib
import enum
from collections.abc import Sequence
from typing import Any, TypeVar

from fulmen import executors as registry
from fulmen.errors import UserTypeError, UserValueError
from fulmen.executor import Executor
from fulmen.transform import Transform


class CACHE(enum.StrEnum):
    """When a program is used again."""

    CONSTANT_VALUES = "constant values"
    SYMBOLIC_VALUES = "symbolic values"
    SAME_INPUT = "same input"
    NO_CACHING = "no caching"


class SHARP_EDGES(enum.StrEnum):
    """What becomes of a call whose effects or inputs a program can't hold."""

    ALLOW = "allow"
    WARN = "warn"
    ERROR = "error"


_Choice = TypeVar("_Choice", CACHE, SHARP_EDGES)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of one jitted function; see `fulmen.jit`."""

    transforms: tuple[Transform, ...] = ()
    executors: tuple[Executor, ...] = ()
    fullgraph: bool = False
    cache: CACHE = CACHE.CONSTANT_VALUES
    sharp_edges: SHARP_EDGES = SHARP_EDGES.ALLOW
    memory_budget: float | None = None


def make_options(
    transforms: Sequence[Transform],
    executors: Sequence[Executor | str] | None,
    fullgraph: bool,
    cache: str,
    sharp_edges: str,
    memory_budget: float | None,
    unknown: dict[str, Any],
) -> Options:
    """The options of a call of `fulmen.jit`.

    Raises:
        UserTypeError: an option that there is none of, or of the wrong type.
        UserValueError: a value that there is none of.
    """
    names = [f.name for f in dataclasses.fields(Options)]
    for name in unknown:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserTypeError(
            f"jit(): got an unknown option {name!r}; {hint}expected one of {', '.join(names)}",
            "jit-option",
        )
    if not isinstance(fullgraph, bool):
        raise UserTypeError(
            f"jit(): got fullgraph={fullgraph!r}; expected True or False", "jit-option"
        )
    if not isinstance(transforms, Sequence) or not all(
        isinstance(t, Transform) for t in transforms
    ):
        raise UserTypeError(
            f"jit(): got transforms={transforms!r}; expected a list of fulmen.Transform",
            "jit-option",
        )
    return Options(
        tuple(transforms),
        executors_of(executors),
        fullgraph,
        _choice("cache", cache, CACHE),
        _choice("sharp_edges", sharp_edges, SHARP_EDGES),
        _budget(memory_budget),
    )


def executors_of(given: Sequence[Executor | str] | None) -> tuple[Executor, ...]:
    """The executors of an `executors=` option; None stands for the default list."""
    return registry.get_default_executors() if given is None else registry.resolve(given)


def _budget(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise UserTypeError(
            f"jit(): got memory_budget={given!r}; expected a number from 0 to 1, or None",
            "jit-option",
        )
    if not 0 <= given <= 1:
        raise UserValueError(
            f"jit(): got memory_budget={given!r}; expected a number from 0 (compute as much again "
            "as can be) to 1 (keep everything)",
            "jit-option",
        )
    return float(given)


def _choice(option: str, given: Any, choices: type[_Choice]) -> _Choice:
    """The member for a value, or for a member of the same name of another library's enum."""
    if isinstance(given, enum.Enum) and given.name in choices.__members__:
        return choices[given.name]
    values = [str(c) for c in choices]
    if isinstance(given, str) and given in values:
        return choices(given)
    close = difflib.get_close_matches(str(given), values, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UserValueError(
        f"jit(): got {option}={given!r}; {hint}expected one of "
        f"{', '.join(repr(v) for v in values)}",
        "jit-option",
    )
