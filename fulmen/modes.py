"""Modes of PyTorch that a program sets: grad mode, inference mode, autocast.

While a program is followed, the thread is really in the modes that it sets, so that what reads them
gets the right answer. The native acquisition puts back what it found.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fulmen import _core

AutocastState = tuple[tuple[str, torch.dtype], ...]

_DEVICES = ("cpu", "cuda")


def set_inference_mode(enabled: bool) -> None:
    """Enters or leaves inference mode, and sets grad mode, as PyTorch's guard does: for traces."""
    _core.set_inference_mode(enabled)


def autocast_state() -> AutocastState:
    """The device types whose operations are autocast on this thread, and their dtypes."""
    return tuple(
        (device, torch.get_autocast_dtype(device))
        for device in _DEVICES
        if torch.is_autocast_enabled(device)
    )


def call_with_autocast(
    state: AutocastState, cache: bool, name: str, /, *args: Any, **kwargs: Any
) -> Any:
    """Calls the torch function `name` with autocast as `state` says: for traces, whose programs run
    with autocast off.
    """
    with autocast_restored():
        for device in _DEVICES:
            dtype = dict(state).get(device)
            torch.set_autocast_enabled(device, dtype is not None)
            if dtype is not None:
                torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(cache)
        try:
            return _callable(name)(*args, **kwargs)
        finally:
            if not in_autocast_region():
                torch.clear_autocast_cache()


@contextlib.contextmanager
def autocast_restored() -> Iterator[None]:
    """Leaves autocast as it was."""
    outer = [(d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES]
    cache, nesting = torch.is_autocast_cache_enabled(), _nesting()
    try:
        yield
    finally:
        for device, enabled, dtype in outer:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(cache)
        while _nesting() > nesting:
            torch.autocast_decrement_nesting()


def in_autocast_region() -> bool:
    """Whether this thread is inside of a torch.autocast, even one that is disabled."""
    return _nesting() > 0


def _nesting() -> int:
    torch.autocast_increment_nesting()
    depth: int = torch.autocast_decrement_nesting()
    return depth


@functools.cache
def _callable(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = _core.resolve_torch_name(name)
    return found


__all__ = [
    "AutocastState",
    "autocast_restored",
    "autocast_state",
    "call_with_autocast",
    "in_autocast_region",
    "set_inference_mode",
]
