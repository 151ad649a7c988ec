"""Which values of tensors the Python code of a model reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READS = ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__")


@contextlib.contextmanager
def value_reads() -> Iterator[list[str]]:
    """Collects the values that Python gets from tensors, and the sizes that depend on values."""
    found: list[str] = []
    with _Reads(found), _Sizes(found):
        yield found


class _Reads(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _READS:
            self.found.append(repr(result))
        return result


class _Sizes(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.Tag.dynamic_output_shape in func.tags:
            leaves = result if isinstance(result, (tuple, list)) else [result]
            self.found.append(repr([tuple(v.shape) for v in leaves if torch.is_tensor(v)]))
        return result
