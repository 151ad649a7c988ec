"""Memory-bound programs on tensors of 1e4, 1e6 and 1e7 elements: eager, torch.compile where there
is a C++ compiler, and Fulmen with generated kernels, in turns."""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

import fulmen
from fulmen import _core, executors
from measure import console, interleaved, save, table, us

COLUMNS = 1000
SIZES = {"1e4": 10_000, "1e6": 1_000_000, "1e7": 10_000_000}


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
    Program("cross-entropy", F.cross_entropy, classes),
    Program("rotary", rotary, positions),
    Program("SwiGLU", lambda x, y: F.silu(x) * y, tensors(2)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    _core.set_flag("executors", "fusion")
    if problem := executors.llvm_problem():
        raise SystemExit(problem)
    with_compile = not options.no_compile and shutil.which("g++") is not None
    rows = []
    for dtype_name in options.dtypes:
        for size in options.sizes:
            rows += run(dtype_name, size, options.rounds, with_compile)
    compiled, shared, microseconds = _core.kernel_counts()
    console.print(
        f"{compiled} kernels in {microseconds / 1e3:.1f} ms, {shared} more found in memory"
    )
    save("kernels", rows)


@torch.no_grad()
def run(dtype_name: str, size: str, rounds: int, with_compile: bool) -> list[dict]:
    shown = table(
        f"{dtype_name}, {size} elements",
        "program, µs",
        "eager",
        "torch.compile",
        "Fulmen",
        "/ eager",
    )
    rows, ratios = [], []
    for program in PROGRAMS:
        inputs = program.inputs(SIZES[size], getattr(torch, dtype_name))
        calls = {"eager": program.function, "fulmen": fulmen.jit(program.function)}
        if with_compile:
            calls["torch.compile"] = torch.compile(program.function, dynamic=False)
        for call in calls.values():
            call(*inputs)
        inner = max(1, 100_000 // SIZES[size])
        times = interleaved(
            {name: partial(call, *inputs) for name, call in calls.items()},
            rounds=rounds,
            inner=inner,
        )
        ratio = times["fulmen"].minimum / times["eager"].minimum
        ratios.append(ratio)
        shown.add_row(
            program.name,
            us(times["eager"].minimum),
            us(times["torch.compile"].minimum) if with_compile else "-",
            us(times["fulmen"].minimum),
            f"{ratio:.2f}",
        )
        rows.append(
            {
                "program": program.name,
                "dtype": dtype_name,
                "elements": SIZES[size],
                "executors": fulmen.stats(calls["fulmen"]).kernels,
                **{name: {"minimum": t.minimum, "median": t.median} for name, t in times.items()},
            }
        )
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    shown.add_row("geometric mean", "", "", "", f"{mean:.2f}")
    console.print(shown)
    return rows


if __name__ == "__main__":
    main()
