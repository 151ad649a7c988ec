"""Fulmen as a backend of torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx

from fulmen import _core
from fulmen.compile import CompiledGraph, CompiledTrace, collect, total_stats
from fulmen.executor import Executor
from fulmen.options import executors_of
from fulmen.stats import Stats
from fulmen.transform import Transform


class FulmenCompiler:
    """A Dynamo backend: `torch.compile(model, backend=FulmenCompiler())`.

    Every FX graph becomes a trace and a native program. Parts that can't be compiled are split off
    and run by PyTorch; `stats().splits` says which, and why.

    Args:
        transforms: applied to every graph; see `Transform`.
        executors: as of `fulmen.jit`.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Transform] = (),
        executors: Sequence[Executor | str] | None = None,
    ) -> None:
        self.transforms = tuple(transforms)
        self.executors = executors_of(executors)
        self.graphs: list[CompiledGraph] = []
        self.splits: dict[str, str] = {}

    def __call__(
        self, gm: torch.fx.GraphModule, example_inputs: Sequence[Any]
    ) -> Callable[..., Any]:
        del example_inputs  # the graph compiles at its first call, on the real inputs
        graph = CompiledGraph(gm, self.transforms, self.executors)
        self.graphs.append(graph)
        return graph.dispatch

    def stats(self) -> Stats:
        """The counters of all graphs compiled so far."""
        total = total_stats(self.graphs)
        total.splits.update(self.splits)
        return total

    def last_compiled(self) -> CompiledTrace | None:
        """The program compiled last."""
        for graph in reversed(collect(self.graphs)):
            if graph.compiled:
                return graph.compiled[-1]
        return None

    def last_traces(self) -> list[_core.Trace]:
        """All stages of the program compiled last, the acquired trace first."""
        for graph in reversed(collect(self.graphs)):
            if graph.compiled:
                return list(graph.compiled[-1].stages)
        return []


def backend(gm: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
    """`torch.compile(model, backend="fulmen")`."""
    return FulmenCompiler()(gm, example_inputs)


def compile_fx_graph(gm: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> CompiledGraph:
    """Compiles an FX graph for inputs like `example_inputs` at once.

    Raises:
        UserError: a call that eager PyTorch refuses.
    """
    graph = CompiledGraph(gm)
    graph.compile_for(tuple(example_inputs))
    return graph
