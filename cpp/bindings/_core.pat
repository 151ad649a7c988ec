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

    class JitFunction:
        """The programs of one jitted function, and the native path to the one that fits a call."""

        _fulmen: JitFunction
        _fulmen_state: Any

        def __init__(self, on_miss: Callable[..., Any], fn: Callable[..., Any], /) -> None: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        def explain(self, *args: Any, **kwargs: Any) -> list[str]:
            """The guard that fails, for each entry that refuses the arguments."""

        def time_guards(self, rounds: int, /, *args: Any) -> tuple[float, int, int]:
            """(seconds, instructions, words) of a check of the newest entry's guards alone."""

        @property
        def counts(self) -> tuple[int, int, int]:
            """(calls, hits, entries)"""

_core.interpret$:
    def interpret(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        \doc

_core.last_counters$:
    def last_counters() -> dict[str, Any]:
        \doc

_core.decode_text$:
    def decode_text(code: Any, /) -> str:
        \doc

_core.opcode_status$:
    def opcode_status(name: str, /) -> str | None:
        \doc
