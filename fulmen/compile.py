"""Trace → Program: passes, transforms, executors; and the graphs that keep their programs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx
from torch.fx.passes.split_module import split_module

from fulmen import _core, log
from fulmen import executors as registry
from fulmen.errors import Unsupported
from fulmen.executor import Executor
from fulmen.fx import is_state_node, restore_checkpoints, trace_fx
from fulmen.stats import Stats
from fulmen.transform import Transform


class CompiledTrace:
    """A program with the traces that led to it, first to last.

    Attributes:
        reports: what became of each bound symbol; see `fulmen.examine.executors`.
        compilation: what backwards are compiled for when they first run.
    """

    def __init__(
        self,
        program: _core.Program,
        stages: list[_core.Trace],
        compilation: _core.Compilation,
        reports: list[_core.ClaimReport],
        notes: list[tuple[str, str]],
    ) -> None:
        self.program = program
        self.stages = stages
        self.compilation = compilation
        self.reports = reports
        self.notes = notes


def compile_trace(
    trace: _core.Trace,
    transforms: Sequence[Transform] = (),
    stats: Stats | None = None,
    executors: Sequence[Executor] | None = None,
    fuel: _core.Fuel | None = None,
    memory_budget: float | None = None,
) -> CompiledTrace:
    """Runs the pass pipeline, the transforms and the executors on an acquired trace.

    Args:
        executors: first asked first; None: the default list.
        fuel: for rewrites and claims; None: what FULMEN_FUEL says.

    Raises:
        UserValueError: a transform returned a broken trace.
        UserNotImplementedError: an operation that no executor runs.
    """
    stats = stats if stats is not None else Stats()
    if executors is None:
        executors = registry.get_default_executors()
    compilation = registry.make_compilation(executors, fuel or _core.fuel_from_flags())
    pipeline = _core.Pipeline(transforms, compilation, memory_budget)
    start = time.perf_counter()
    acquired, trace = trace, pipeline.run(trace)
    stats.add_seconds("passes", time.perf_counter() - start)
    start = time.perf_counter()
    report = _core.ClaimReport()
    reports = [report]
    if registry.runs_as_python(executors):
        reports.insert(0, _core.ClaimReport())
        trace = registry.as_python(pipeline.claim_operators(trace, reports[0]))
    claimed = pipeline.reuse(pipeline.transform_for_execution(trace, report))
    seconds = time.perf_counter() - start
    regions = sum(took for name, took, _ in pipeline.timings if name == "partition") * 1e-6
    if regions:
        stats.add_seconds("kernels", regions)
    if log.executors.isEnabledFor(logging.INFO):
        for operation, _, executor, refusals in (d for r in reports for d in r.decisions):
            why = "".join(f"; {name}: {reason}" for name, reason in refusals)
            log.executors.info("%s: %s%s", executor or "decomposed", operation, why)
    for executor, count in report.claimed.items():
        stats.kernels[executor] = stats.kernels.get(executor, 0) + count
    stats.refusals.update(report.refusals)
    stats.add_seconds("claim", seconds - regions)
    start = time.perf_counter()
    last = pipeline.run_last(pipeline.post_optimization(claimed))
    program = _core.build_program(last, compilation)
    stats.instructions += program.num_instructions
    stats.add_seconds("program", time.perf_counter() - start)
    for name, note in pipeline.notes:
        stats.notes.append(f"{name}: {note}")
    stages = [acquired, *pipeline.stages]
    return CompiledTrace(program, stages, compilation, reports, pipeline.notes)


class CompiledGraph:
    """A callable in place of an FX graph: compiles at the first call, and for each new kind of
    arguments; parts that Fulmen can't compile are split off and run by PyTorch.

    Attributes:
        gm: the graph.
        stats: counters; calls and hits are kept by the native dispatch.
        compiled: every program so far, the newest last.
    """

    def __init__(
        self,
        gm: torch.fx.GraphModule,
        transforms: Sequence[Transform] = (),
        executors: Sequence[Executor] | None = None,
    ) -> None:
        restore_checkpoints(gm)
        self.gm = gm
        self.transforms = tuple(transforms)
        self.executors = registry.get_default_executors() if executors is None else executors
        self.stats = Stats()
        self.compiled: list[CompiledTrace] = []
        self.parts: list[CompiledGraph] = []
        self._split: Callable[..., Any] | None = None
        self._unsupported: dict[torch.fx.Node, str] = {}
        self._lock = threading.RLock()
        self.dispatch = _core.Dispatch(self._miss)

    def __call__(self, *args: Any) -> Any:
        return self.dispatch(*args)

    def compile_for(self, args: tuple[Any, ...]) -> None:
        """Compiles for arguments like these, without running."""
        with self._lock:
            if not self._compile(self.dispatch, args):
                self._split = self._split or self._split_graph()

    def _miss(self, dispatch: Any, *args: Any) -> Any:
        with self._lock:
            if self._split is None and not self._compile(dispatch, args):
                self._split = self._split or self._split_graph()
        if self._split is not None:
            return self._split(*args)
        return dispatch(*args)

    def _compile(self, dispatch: Any, args: tuple[Any, ...]) -> bool:
        """Adds a program for these arguments; False if parts must be split off."""
        if self.compiled:
            reasons = dispatch.explain(*args)
            if len(reasons) < len(self.compiled):
                return True  # another thread compiled it meanwhile
            self.stats.recompiles.append(reasons[-1])
            log.recompile.info("recompiling: %s", reasons[-1])
        start = time.perf_counter()
        try:
            result = trace_fx(self.gm, args)
        except Unsupported as e:
            self.stats.splits["the whole graph"] = str(e)
            self._split = self.gm
            return False
        self.stats.add_seconds("acquisition", time.perf_counter() - start)
        self.stats.fallbacks.update(result.tracer.fallbacks)
        for node, reason in result.unsupported.items():
            self.stats.splits[node.name] = reason
            log.fallback.info("split off to PyTorch: %s: %s", node.name, reason)
        if result.trace is None:
            self._unsupported = result.unsupported
            return False
        compiled = compile_trace(result.trace, self.transforms, self.stats, self.executors)
        dispatch.add(compiled.program, result.number_values, result.captured)
        self.compiled.append(compiled)
        return True

    def _split_graph(self) -> Callable[..., Any]:
        unsupported = self._unsupported
        compute = [
            n for n in self.gm.graph.nodes if n.op not in ("placeholder", "output", "get_attr")
        ]
        if all(n in unsupported or is_state_node(n) for n in compute):
            return self.gm
        partition: dict[torch.fx.Node, int] = {}
        current, last = 0, None
        for node in compute:
            by_torch = node in unsupported or is_state_node(node)
            if last is not None and by_torch != last:
                current += 1
            last = by_torch
            partition[node] = current
        by_torch_ids = {partition[n] for n in compute if n in unsupported or is_state_node(n)}
        split = split_module(
            self.gm, self.gm, lambda n: partition.get(n, 0), keep_original_order=True
        )
        for name, child in list(split.named_children()):
            if not name.startswith("submod_") or int(name[7:]) in by_torch_ids:
                continue
            part = CompiledGraph(child, self.transforms, self.executors)
            self.parts.append(part)
            delattr(split, name)
            setattr(split, name, part)
        return split


def collect(graphs: Sequence[CompiledGraph]) -> list[CompiledGraph]:
    """The graphs and, in place of a split one, its parts as well."""
    found = []
    for graph in graphs:
        found.append(graph)
        found += collect(graph.parts)
    return found


def total_stats(graphs: Sequence[CompiledGraph]) -> Stats:
    """The counters of all graphs in one."""
    total = Stats()
    for graph in collect(graphs):
        calls, hits, _ = graph.dispatch.counts
        # A miss that compiled calls the dispatch again, which then hits.
        misses = len(graph.compiled)
        total.calls += calls - misses
        total.cache_hits += hits - misses
        total.cache_misses += misses
        for phase, seconds in graph.stats.compile_seconds.items():
            total.add_seconds(phase, seconds)
        total.instructions += graph.stats.instructions
        for executor, count in graph.stats.kernels.items():
            total.kernels[executor] = total.kernels.get(executor, 0) + count
        total.fallbacks.update(graph.stats.fallbacks)
        total.splits.update(graph.stats.splits)
        total.refusals.update(graph.stats.refusals)
        total.recompiles += graph.stats.recompiles
        total.notes += graph.stats.notes
    return total
