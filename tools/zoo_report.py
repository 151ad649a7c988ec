"""Runs every model of the zoo in a process of its own, and prints a table.

A row is `ok` when the compiled model passes the check of tests/models/test_zoo.py: every call gives
eager's result, and no program is compiled or split off that should not be.

    python tools/zoo_report.py [--only TEXT ...] [--group GROUP ...] [--jobs N] [--front-end eager]
                               [--out FILE.md] [--json FILE]
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "name": "model",
    "group": "group",
    "result": "result",
    "operations": "operations",
    "guards": "guards",
    "acquisition_ms": "acquisition ms",
    "compile_ms": "compile ms",
    "first_ms": "first call ms",
    "eager_ms": "eager ms",
}


def find_rows() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tests" / "models"))
    from zoo import ROWS
    from zoo_litgpt import LITGPT

    return {row.name: row for row in [*ROWS, *LITGPT]}


def run_row(name: str, front_end: str) -> dict[str, Any]:
    """Measurements of a first call, then the verdict of the check."""
    import torch

    import fulmen

    row = find_rows()[name]
    from zoo_check import PassThrough, check_calls

    def compile_model(model: torch.nn.Module) -> tuple[Any, Any]:
        if front_end == "eager":
            compiled = PassThrough(model)
            return compiled, lambda: compiled.stats
        jitted = fulmen.jit(model)
        return jitted, lambda: fulmen.stats(jitted)

    found: dict[str, Any] = {}
    try:
        found |= _measure(row, compile_model, fulmen)
        check_calls(row.build, row.calls(), compile_model)
        found["result"] = "ok"
    except Exception as e:
        found["result"] = _reason(e)
        found["traceback"] = traceback.format_exc()
    return found


def _measure(row: Any, compile_model: Any, fulmen: Any) -> dict[str, Any]:
    import torch

    call = row.calls()[0]
    plain, (compiled, stats) = row.build(), compile_model(row.build())
    found: dict[str, Any] = {}
    with torch.no_grad():
        times = []
        for _ in range(6):
            inputs = call.inputs()
            start = time.perf_counter()
            plain(**inputs)
            times.append(1e3 * (time.perf_counter() - start))
        found["eager_ms"] = sorted(times)[len(times) // 2]
        inputs = call.inputs()
        start = time.perf_counter()
        compiled(**inputs)
        found["first_ms"] = 1e3 * (time.perf_counter() - start)
    seconds = stats().compile_seconds
    if seconds:
        found["acquisition_ms"] = 1e3 * seconds.get("acquisition", 0.0)
        found["compile_ms"] = 1e3 * sum(seconds.values())
    guards = getattr(stats(), "guards", None)
    if guards is not None:
        found["guards"] = sum(guards)
    if hasattr(compiled, "_fulmen"):
        stages = fulmen.last_traces(compiled)
        found["operations"] = len(stages[0].bound_symbols) if stages else 0
        found["fallbacks"] = sorted(stats().fallbacks)
    return found


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def _child(pipe: Any, name: str, front_end: str) -> None:
    pipe.send(run_row(name, front_end))
    pipe.close()


def run_rows(
    names: list[str], front_end: str, jobs: int, limit: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each result as it comes. Processes are forked: only this one imports PyTorch."""
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(names))
    running: dict[Any, tuple[str, Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(theirs, name, front_end))
            process.start()
            theirs.close()
            running[ours] = (name, process, time.monotonic() + limit)
        ready = multiprocessing.connection.wait(list(running), timeout=1)
        for pipe, (name, process, deadline) in list(running.items()):
            if pipe in ready:
                try:
                    result = pipe.recv()
                except EOFError:
                    process.join()
                    result = {"result": f"the process ended with {process.exitcode}"}
            elif time.monotonic() > deadline:
                process.kill()
                result = {"result": f"no result in {limit:.0f} s"}
            else:
                continue
            process.join()
            del running[pipe]
            yield name, result


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + " --- |" * len(COLUMNS)]
    for result in results:
        cells = []
        for key in COLUMNS:
            value = result.get(key, "")
            cells.append(f"{value:.1f}" if isinstance(value, float) else str(value))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    groups: dict[str, list[bool]] = collections.defaultdict(list)
    for result in results:
        groups[result["group"]].append(result["result"] == "ok")
    parts = [f"{group} {sum(oks)}/{len(oks)}" for group, oks in groups.items()]
    good = sum(r["result"] == "ok" for r in results)
    return f"{good} of {len(results)} models work: " + ", ".join(parts)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="names, or parts of them")
    parser.add_argument("--group", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=120, help="seconds for a model")
    parser.add_argument("--front-end", choices=["jit", "eager"], default="jit")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    parser.add_argument("--json", type=Path, help="everything, with tracebacks")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    rows = [
        row
        for name, row in find_rows().items()
        if (not arguments.only or any(part in name for part in arguments.only))
        and (not arguments.group or row.group in arguments.group)
    ]
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    found: dict[str, dict[str, Any]] = {}
    names = [row.name for row in rows]
    for name, result in run_rows(names, arguments.front_end, arguments.jobs, arguments.limit):
        found[name] = result
        print(f"{name:28} {result['result']}", file=sys.stderr, flush=True)
    results = [{"name": row.name, "group": row.group, **found[row.name]} for row in rows]
    text = f"{summary(results)}\n\n{table(results)}\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0 if all(r["result"] == "ok" for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
