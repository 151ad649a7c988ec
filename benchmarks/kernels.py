"""Memory-bound programs on tensors of 1e4, 1e6 and 1e7 elements: eager PyTorch, torch.compile where
there is a C++ compiler, lightning-thunder where it is installed, and Fulmen, in turns."""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

import fulmen
from fulmen import _core, executors
from measure import Timing, console, interleaved, save, table, timed, us

COLUMNS = 1000
SIZES = {"1e4": 10_000, "1e6": 1_000_000, "1e7": 10_000_000}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Program:
    name: str
    function: Callable[..., torch.Tensor]
    inputs: Callable[[int, torch.dtype], tuple[torch.Tensor, ...]]


def tensors(count: int, vectors: int = 0):
    def make(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        rows = elements // COLUMNS
        full = [torch.randn(rows, COLUMNS).to(dtype) for _ in range(count)]
        return (*full, *(torch.randn(COLUMNS).to(dtype) for _ in range(vectors)))

    return make


def classes(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    rows = elements // COLUMNS
    return torch.randn(rows, COLUMNS).to(dtype), torch.randint(0, COLUMNS, (rows,))


def positions(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    heads, width = 5, 50
    length = elements // (heads * width)
    angles = torch.randn(length, width)
    return tuple(
        t.to(dtype) for t in (torch.randn(heads, length, width), angles.cos(), angles.sin())
    )


def rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def gelu_by_hand(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


PROGRAMS = [
    Program("add", lambda x, y: x + y, tensors(2)),
    Program("gelu of a sum", lambda x, b: F.gelu(x + b), tensors(1, 1)),
    Program("gelu by hand", gelu_by_hand, tensors(1)),
    Program("multiply-add chain", lambda x, y, b: ((x * y + b) * y + b) * x, tensors(2, 1)),
    Program("RMSNorm", lambda x, w: F.rms_norm(x, (COLUMNS,), w), tensors(1, 1)),
    Program("residual, RMSNorm", lambda x, y, w: F.rms_norm(x + y, (COLUMNS,), w), tensors(2, 1)),
    Program("LayerNorm", lambda x, w, b: F.layer_norm(x, (COLUMNS,), w, b), tensors(1, 2)),
    Program("softmax", lambda x: x.softmax(-1), tensors(1)),
    Program("log-softmax", lambda x: x.log_softmax(-1), tensors(1)),
    Program("cross-entropy", lambda x, t: F.cross_entropy(x, t), classes),
    Program("rotary", rotary, positions),
    Program("SwiGLU", lambda x, y: F.silu(x) * y, tensors(2)),
]


def with_thunder(function: Callable[..., Any]) -> Callable[..., Any]:
    import thunder

    return thunder.jit(function)


COMPILERS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "eager": lambda function: function,
    "torch.compile": partial(torch.compile, dynamic=False),
    "lightning-thunder": with_thunder,
    "Fulmen": fulmen.jit,
}


def available() -> list[str]:
    missing = set()
    if shutil.which("g++") is None:
        missing.add("torch.compile")
    if importlib.util.find_spec("thunder") is None:
        missing.add("lightning-thunder")
    return [name for name in COMPILERS if name not in missing]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=["float32"])
    parser.add_argument("--programs", nargs="*", help="parts of names", default=[""])
    parser.add_argument("--peers", nargs="*", choices=COMPILERS, default=available())
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    _core.set_flag("executors", "fusion")
    if problem := executors.llvm_problem():
        raise SystemExit(problem)
    peers = [name for name in COMPILERS if name in {*options.peers, "Fulmen"}]
    programs = [p for p in PROGRAMS if any(part in p.name for part in options.programs)]
    rows, generation = [], []
    for dtype in options.dtypes:
        for size in options.sizes:
            rows += run(programs, dtype, size, options.rounds, peers, generation)
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


@torch.no_grad()
def run(
    programs: list[Program],
    dtype: str,
    size: str,
    rounds: int,
    peers: list[str],
    generation: list[float],
) -> list[dict]:
    others = [name for name in peers if name != "Fulmen"]
    shown = table(
        f"{dtype}, {size} elements, µs; the last columns: Fulmen's time relative to the peer's",
        "program", *peers, *(f"/ {name}" for name in others),
    )  # fmt: skip
    rows: list[dict] = []
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for program in programs:
        torch.manual_seed(0)
        inputs = program.inputs(SIZES[size], DTYPES[dtype])
        calls = {name: COMPILERS[name](program.function) for name in peers}
        first = {}
        for name, call in calls.items():
            start = partial(call, *inputs)
            if name == "Fulmen":
                start = partial(generated, call, inputs, generation)
            first[name], _ = timed(start)
        times: dict[str, Timing] = interleaved(
            {name: partial(call, *inputs) for name, call in calls.items()},
            rounds=rounds,
            inner=max(1, 200_000 // SIZES[size]),
        )
        for name in others:
            ratios[name].append(times["Fulmen"].minimum / times[name].minimum)
        shown.add_row(
            program.name,
            *(us(times[name].minimum) for name in peers),
            *(f"{ratios[name][-1]:.2f}" for name in others),
        )
        rows.append(
            {
                "program": program.name,
                "dtype": dtype,
                "elements": SIZES[size],
                "executors": fulmen.stats(calls["Fulmen"]).kernels,
                **{
                    name: {"first_s": first[name], "min_s": t.minimum, "median_s": t.median}
                    for name, t in times.items()
                },
            }
        )
    blank = [""] * len(peers)
    means = [math.exp(statistics.fmean(map(math.log, ratios[name]))) for name in others]
    shown.add_section()
    shown.add_row("geometric mean", *blank, *(f"{mean:.2f}" for mean in means))
    shown.add_row("worst", *blank, *(f"{max(ratios[name]):.2f}" for name in others))
    console.print(shown)
    return rows


if __name__ == "__main__":
    main()
