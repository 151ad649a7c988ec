"""Messages that a program gives at each call: what `logging` and `warnings` are told.

A planner looks at such a call while a program is traced, and returns the function to call, and its
arguments, whenever the program has run. None: there is nothing to do. NotImplemented: eager PyTorch
must run the call.
"""

from __future__ import annotations

import functools
import logging
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Plan = tuple[Callable[..., None], tuple[Any, ...]] | None

_FULMEN_DIR = str(Path(__file__).parent)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type)
_LEVELS = {
    "debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING,
    "warn": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}  # fmt: skip


def _is_plain(value: Any) -> bool:
    """Whether a message about the value is the same whenever it is written."""
    if type(value) in (tuple, frozenset):
        return all(_is_plain(v) for v in value)
    return type(value) in _PLAIN or isinstance(value, type)


def _caller(frame: types.FrameType, levels: int) -> types.FrameType:
    """The frame so many levels further out, as if Fulmen were not there."""
    while levels > 0 and frame.f_back is not None:
        frame = frame.f_back
        levels -= not frame.f_code.co_filename.startswith(_FULMEN_DIR)
    return frame


def plan_log(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tracer: Any
) -> Plan:
    """A method of logging.Logger, or a function of logging."""
    frame = sys._getframe(1)
    is_method = function.__qualname__.startswith("Logger.")
    logger: logging.Logger = args[0] if is_method else logging.root
    rest = list(args[1:] if is_method else args)
    level = _LEVELS.get(function.__name__)
    if level is None:  # Logger.log
        level = rest.pop(0)
    if not rest or type(level) is not int:
        return NotImplemented
    plain = _is_plain(tuple(rest)) and set(kwargs) <= {"stacklevel", "stack_info", "exc_info"}
    if kwargs.get("exc_info") or kwargs.get("stack_info") or not plain:
        if logger.isEnabledFor(level):
            return NotImplemented
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        tracer.notes.append(f"a message of logging, off when the program was traced: {where}")
        return None
    frame = _caller(frame, kwargs.get("stacklevel", 1) - 1)
    code = frame.f_code
    place = (code.co_filename, frame.f_lineno, code.co_name)
    emit = functools.partial(_log, level, str(rest[0]), tuple(rest[1:]), place)
    return (emit, (logger,)) if is_method else (functools.partial(_log_to_root, emit), ())


def _log(
    level: int,
    message: str,
    args: tuple[Any, ...],
    place: tuple[str, int, str],
    logger: logging.Logger,
) -> None:
    if logger.isEnabledFor(level):
        file, line, function = place
        logger.handle(
            logger.makeRecord(logger.name, level, file, line, message, args, None, function)
        )


def _log_to_root(emit: Callable[[logging.Logger], None]) -> None:
    if not logging.root.handlers:
        logging.basicConfig()
    emit(logging.root)


def plan_warning(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tracer: Any
) -> Plan:
    """warnings.warn."""
    del function
    given = dict(zip(("message", "category", "stacklevel", "source"), args, strict=False)) | kwargs
    message = given.pop("message", None)
    category = given.pop("category", None) or UserWarning
    level = given.pop("stacklevel", 1)
    given.pop("source", None)
    if isinstance(message, Warning):
        category = type(message)
    elif not isinstance(message, str):
        return NotImplemented
    # Inside of catch_warnings(): what the filters say then is not what they say later.
    if given or not isinstance(category, type) or warnings.filters is not tracer.warning_filters:
        return NotImplemented
    frame = _caller(sys._getframe(1), level - 1)
    scope = frame.f_globals
    registry = scope.setdefault("__warningregistry__", {})
    warn = functools.partial(
        warnings.warn_explicit,
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        scope.get("__name__") or "<string>",
        registry,
    )
    return warn, ()
