"""Timing, tables and result files shared by the benchmarks."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
THREADS = 2

torch.set_num_threads(THREADS)
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=100)


@dataclass(frozen=True)
class Timing:
    """Seconds a call."""

    minimum: float
    median: float


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, inner: int = 1
) -> dict[str, Timing]:
    """Times calls in turns, so that a disturbance of the machine hits all alike. `inner` calls are
    timed together where one is too short for the clock."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(inner):
                call()
            times[name].append((time.perf_counter() - start) / inner)
    return {name: Timing(min(t), statistics.median(t)) for name, t in times.items()}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def save(name: str, rows: list[dict[str, Any]]) -> None:
    """Writes the rows with what they were measured on to results/NAME.json."""
    machine = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    console.print(f"[dim]{machine['cpu']}, {THREADS} threads; saved in {path}[/]\n")


def table(title: str, *columns: str) -> Table:
    """A table whose first column is a name and whose others are numbers."""
    result = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    result.add_column(columns[0])
    for column in columns[1:]:
        result.add_column(column, justify="right")
    return result


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}"
