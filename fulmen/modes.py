"""Modes of PyTorch that a program sets: grad mode, inference mode, autocast.

While a program is followed, the thread is really in the modes that it sets, so that what reads them
gets the right answer. The native acquisition puts back what it found.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from fulmen import _core

AutocastState = tuple[tuple[str, torch.dtype], ...]


def set_inference_mode(enabled: bool) -> None:
    """Enters or leaves inference mode, and sets grad mode, as PyTorch's guard does: for traces."""
    _core.set_inference_mode(enabled)


def autocast_state() -> AutocastState:
    """The device types whose operations are autocast on this thread, and their dtypes."""
    return tuple(
        (device, torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")
        if torch.is_autocast_enabled(device)
    )


def call_with_autocast(state: AutocastState, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Calls the torch function `name` with autocast as `state` says: for traces, whose programs run
    with autocast off.
    """
    outer = [
        (d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")
    ]
    cache = torch.is_autocast_cache_enabled()
    try:
        for device, _, dtype in outer:
            on = dict(state).get(device)
            torch.set_autocast_enabled(device, on is not None)
            torch.set_autocast_dtype(device, dtype if on is None else on)
        torch.set_autocast_cache_enabled(False)
        return _callable(name)(*args, **kwargs)
    finally:
        for device, enabled, dtype in outer:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(cache)


@functools.cache
def _callable(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = _core.resolve_torch_name(name)
    return found


__all__ = ["AutocastState", "autocast_state", "call_with_autocast", "set_inference_mode"]
