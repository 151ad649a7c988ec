"""Memory-bound programs on tensors of 1e4, 1e6 and 1e7 elements: eager PyTorch, torch.compile where
there is a C++ compiler, lightning-thunder and JAX where they are installed, and Fulmen, in turns,
beside the time that the memory itself takes."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from bandwidth import bytes_per_second
from kernel_programs import DTYPES, PROGRAMS, SIZES, Program, in_jax
from peers import available, chosen, installed

from fulmen import _core, executors
from measure import THREADS, Timing, console, interleaved, save, table, timed, us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", nargs="*", type=int, default=[THREADS, 1])
    parser.add_argument("--programs", nargs="*", help="parts of names", default=[""])
    parser.add_argument("--peers", nargs="*", default=[*available(), *["JAX"] * installed("JAX")])
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    if problem := executors.llvm_problem():
        raise SystemExit(problem)
    programs = [p for p in PROGRAMS if any(part in p.name for part in options.programs)]
    rows, generation = [], []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for dtype in options.dtypes:
            for size in options.sizes:
                rows += run(programs, dtype, size, threads, options, generation)
    if generation:
        milliseconds = [seconds * 1e3 for seconds in generation]
        console.print(
            f"{len(generation)} kernels generated: median {statistics.median(milliseconds):.1f} ms,"
            f" longest {max(milliseconds):.1f} ms"
        )
    if not options.no_save:
        save("kernels", rows)


def generated(program: Callable[..., Any], inputs: tuple, generation: list[float]) -> Any:
    """The first call of a program; what each of its kernels took to generate goes to
    `generation`."""
    before = _core.kernel_counts()
    result = program(*inputs)
    after = _core.kernel_counts()
    if count := after[0] - before[0]:
        generation += [(after[2] - before[2]) * 1e-6 / count] * count
    return result


def calls_of(
    program: Program, inputs: tuple[torch.Tensor, ...], names: list[str]
) -> dict[str, Callable[[], Any]]:
    calls: dict[str, Callable[[], Any]] = {
        name: partial(compile(program.function), *inputs) for name, compile in chosen(names).items()
    }
    if "JAX" in names and (jitted := in_jax(program, inputs)):
        calls["JAX"] = jitted
    calls["Fulmen"] = calls.pop("Fulmen")
    return calls


def limit(program: Program, inputs: tuple[torch.Tensor, ...], threads: int) -> float:
    """Seconds that reading the inputs and writing the result takes at the least, from memory."""
    result = program.function(*inputs)
    moved = sum(t.numel() * t.element_size() for t in (*inputs, result))
    return moved / max(bytes_per_second(threads).values())


@torch.no_grad()
def run(
    programs: list[Program],
    dtype: str,
    size: str,
    threads: int,
    options: argparse.Namespace,
    generation: list[float],
) -> list[dict]:
    # JAX's threads are its own affair.
    peers = [p for p in options.peers if p != "JAX" or threads == THREADS]
    rows: list[dict] = []
    ratios: dict[str, list[float]] = {}
    shown = None
    for program in programs:
        torch.manual_seed(0)
        inputs = program.inputs(SIZES[size], DTYPES[dtype])
        calls = calls_of(program, inputs, peers)
        others = [name for name in calls if name != "Fulmen"]
        if shown is None:
            shown = table(
                f"{dtype}, {size} elements, {threads} threads, µs; last: Fulmen's time relative to",
                "program", *calls, *others, "memory",
            )  # fmt: skip
        first = {}
        for name, call in calls.items():
            start = partial(generated, call, (), generation) if name == "Fulmen" else call
            first[name], _ = timed(start)
        times: dict[str, Timing] = interleaved(
            calls, rounds=options.rounds, inner=max(1, 200_000 // SIZES[size])
        )
        ours = times["Fulmen"].minimum
        for name in others:
            ratios.setdefault(name, []).append(ours / times[name].minimum)
        memory = limit(program, inputs, threads)
        shown.add_row(
            program.name,
            *(us(t.minimum) for t in times.values()),
            *(f"{ours / times[name].minimum:.2f}" for name in others),
            # Small tensors are read from the caches.
            f"{ours / memory:.2f}" if SIZES[size] >= 10_000_000 else "",
        )
        rows.append(
            {
                "program": program.name,
                "dtype": dtype,
                "elements": SIZES[size],
                "threads": threads,
                "memory_s": memory,
                **{
                    name: {"first_s": first[name], "min_s": t.minimum, "median_s": t.median}
                    for name, t in times.items()
                },
            }
        )
    if shown is not None:
        blank = [""] * (len(ratios) + 1)
        shown.add_section()
        means = (statistics.geometric_mean(r) for r in ratios.values())
        shown.add_row("geometric mean", *blank, *(f"{mean:.2f}" for mean in means), "")
        worst = (max(r) for r in ratios.values())
        shown.add_row("worst", *blank, *(f"{w:.2f}" for w in worst), "")
        console.print(shown)
    return rows


if __name__ == "__main__":
    main()
