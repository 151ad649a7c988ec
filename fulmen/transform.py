"""Transforms: user-defined changes of a whole program, weights included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fulmen import _core
from fulmen.tracer import TraceMode, Tracer


class Transform:
    """A change of module and traces. Override what is needed; the defaults change nothing."""

    def transform_module(self, module: torch.nn.Module) -> None:
        """Called once with the module before it is compiled; may replace its parameters."""

    def transform_traces_pre_prologue(
        self, prologue: _core.Trace, computation: _core.Trace, epilogue: _core.Trace
    ) -> tuple[_core.Trace, _core.Trace, _core.Trace]:
        """Called after acquisition and functionalization, before autodiff and executors.

        Returns:
            the three traces, changed or not. The computation must keep its inputs and the
            structure of its output.
        """
        return prologue, computation, epilogue

    def transform_trace_post_optimization(self, trace: _core.Trace) -> _core.Trace:
        """Called on the claimed trace, the last before the program is built."""
        return trace

    def transform_state_dict_for_submodule(
        self, module: torch.nn.Module, submodule_name: str, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """Maps a submodule's entries from the original state dict to the transformed one."""
        del module, submodule_name
        return state_dict

    def reverse_transform_state_dict_for_submodule(
        self, module: torch.nn.Module, submodule_name: str, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """The inverse of `transform_state_dict_for_submodule`."""
        del module, submodule_name
        return state_dict


class _Keep:
    def __repr__(self) -> str:
        return "fulmen.KEEP"


KEEP: Any = _Keep()
"""What a visitor of `rewrite` returns to keep a bound symbol as it is."""


def rewrite(
    trace: _core.Trace, visit: Callable[[_core.BoundSymbol], Any], provenance: str = "Rewrite"
) -> _core.Trace:
    """A new trace in which each bound symbol is kept or replaced.

    Args:
        trace: the trace to rewrite; it is not changed.
        visit: called with each bound symbol in order. It returns `KEEP`, or a value that takes the
            place of the bound symbol's output: the same structure of proxies. What it computes
            with torch functions on the bound symbol's arguments is recorded in its place.
        provenance: the name of the rewrite, printed with the trace.

    Raises:
        UserValueError: a replacement with another structure, or other metadata, than the output.
    """
    tracer = Tracer(_core.Recorder.for_trace(trace))
    with tracer:
        for bsym in trace.bound_symbols:
            current = tracer.recorder.substituted(bsym)
            with TraceMode(tracer):
                value = visit(current)
            if value is KEEP:
                tracer.recorder.append(current)
            else:
                tracer.recorder.replace(bsym.output, value)
        return tracer.recorder.finish_rewrite(trace, provenance)
