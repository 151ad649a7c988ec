"""Symbols by name, as functions: `fulmen.symbols.gelu(x)`, `fulmen.symbols.max.dim(x, 0)`.

A printed trace calls a symbol this way where no callable of PyTorch does the same.
"""

from __future__ import annotations

from typing import Any

from fulmen import _core, tracer
from fulmen.compile import compile_trace
from fulmen.trace import trace_call


class SymbolFunction:
    """Calls a symbol: recorded while a program is traced, run through its executors otherwise."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        symbol = _core.find_symbol(self.__name__)
        if symbol is None:
            raise AttributeError(_no_symbol(self.__name__))
        if tracer.is_tracing():
            recorder = tracer.current_tracer().recorder
            return recorder.record_symbol(symbol, args, kwargs)
        own = _core.implementation_of(symbol)
        if own is not None:
            return own(*args, **kwargs)
        trace, _, inputs = trace_call(self, args, kwargs)
        run = _core.Dispatch(_refuse)
        run.add(compile_trace(trace).program, (None,) * len(inputs), ())
        return run(*inputs)

    def __getattr__(self, overload: str) -> SymbolFunction:
        return _function(f"{self.__name__}.{overload}")

    def __repr__(self) -> str:
        return f"fulmen.symbols.{self.__name__}"


def _no_symbol(name: str) -> str:
    return f"fulmen.symbols has no symbol '{name}'; fulmen._core.symbols() lists them"


def _function(name: str) -> SymbolFunction:
    names = [*(s.name for s in _core.symbols()), *_core.defined_symbols()]
    if not any(n == name or n.startswith(f"{name}.") for n in names):
        raise AttributeError(_no_symbol(name))
    return SymbolFunction(name)


def _refuse(*args: Any) -> Any:
    del args
    raise AssertionError("a program refuses the inputs that it was compiled for")


def __getattr__(name: str) -> SymbolFunction:
    return _function(name)


def __dir__() -> list[str]:
    return sorted({s.name.partition(".")[0] for s in _core.symbols()})
