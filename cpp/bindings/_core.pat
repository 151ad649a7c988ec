# Types that are built through CPython's own interface, which stub generation does not see.
_core.__suffix__:
    \from collections.abc import Callable
    \from typing import Any
    \import torch
    class TensorProxy(torch.Tensor):
        """A tensor of a trace: metadata without data."""

    class Dispatch:
        """The entries of one compiled graph, and the native path to the one that fits a call."""

        def __init__(self, on_miss: Callable[..., Any], /) -> None: ...

        def __call__(self, *args: Any) -> Any: ...

        def add(self, program: Program, number_values: tuple, captured: tuple, /) -> None:
            """Adds an entry."""

        def explain(self, *args: Any) -> list[str]:
            """Why each entry refuses the arguments."""

        @property
        def counts(self) -> tuple[int, int, int]:
            """(calls, hits, entries)"""
