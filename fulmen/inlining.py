"""PyTorch's functions that are written in Python: recorded as the calls that their body makes.

Such a function begins by asking whether an argument overrides it, and hands itself over if so. Its
twin here is the same code where nothing does, so that the overrides see the calls further in.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

_MODULES = {"torch.nn.functional", "torch.functional", "torch._tensor"}


def _nothing_overrides(*args: Any) -> bool:
    del args
    return False


_PATCHES = dict.fromkeys(
    ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"),
    _nothing_overrides,
)


def copy_of(func: types.FunctionType, patches: dict[str, Any] | None = None) -> types.FunctionType:
    """The same function as another object, with `patches` among its globals."""
    namespace = {**func.__globals__, **patches} if patches else func.__globals__
    twin = types.FunctionType(
        func.__code__, namespace, func.__name__, func.__defaults__, func.__closure__
    )
    twin.__kwdefaults__ = func.__kwdefaults__
    return twin


@functools.cache
def inlined(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """The twin of `func`, or None if it is not one of PyTorch's own Python functions."""
    if not isinstance(func, types.FunctionType) or func.__globals__.get("__name__") not in _MODULES:
        return None
    return copy_of(func, _PATCHES)
