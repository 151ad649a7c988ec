"""Products by Fulmen's own loops against PyTorch's: half types, few rows, epilogues, and
losses with their linear layer.

    python benchmarks/products.py [--threads N] [--only half,rows,epilogue,loss]

Times are of the processor (`time.thread_time`) with one thread, so that other work on the machine
does not count, and of the clock with more. Variants run in turns. bfloat16 is measured as on a
processor without instructions for it when ONEDNN_MAX_CPU_ISA=AVX2 is set.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import fulmen
import measure

Row = dict[str, Any]
SHAPES = [(512, 512, 512), (128, 768, 3072), (16, 768, 3072), (1, 1024, 1024), (1, 4096, 4096)]
SKINNY = [(m, k, n) for k, n in ((256, 256), (1024, 1024), (1024, 4096), (4096, 4096))
          for m in (1, 2, 4, 8, 16, 32, 128)]  # fmt: skip


def interleaved(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, Any]:
    """Minimum and median of the calls in turns, in microseconds."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    deadline = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < deadline or len(next(iter(times.values()))) < 5:
        for name, call in calls.items():
            start = clock()
            call()
            times[name].append((clock() - start) * 1e6)
    return {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}


def jitted(f: Callable[..., Any], *executors: str) -> Any:
    return fulmen.jit(f, executors=list(executors))


def half(seconds: float) -> list[Row]:
    """float16 and bfloat16 in eager and compiled, against eager's float32."""
    rows = []
    forms: dict[str, Callable[..., Any]] = {"linear": F.linear, "x @ w": torch.matmul}
    for m, k, n in SHAPES:
        for form, f in forms.items():
            for dtype in (torch.float16, torch.bfloat16):
                x, w = torch.randn(m, k), torch.randn(n, k)
                if form != "linear":
                    w = w.t().contiguous()
                xh, wh = x.to(dtype), w.to(dtype)
                g = jitted(f, "products")
                times = interleaved(
                    {
                        "float32": lambda f=f, x=x, w=w: f(x, w),
                        "eager": lambda f=f, x=xh, w=wh: f(x, w),
                        "fulmen": lambda f=g, x=xh, w=wh: f(x, w),
                    },
                    seconds,
                )
                ours = "products" in fulmen.stats(g).kernels
                rows.append(
                    {"group": "half", "form": form, "dtype": str(dtype)[6:], "m": m, "k": k, "n": n,
                     "claimed": ours, **times}
                )  # fmt: skip
    return rows


def few_rows(seconds: float) -> list[Row]:
    """float32 with few rows, as in decoding."""
    rows = []
    for m, k, n in SKINNY:
        x, w = torch.randn(m, k), torch.randn(n, k)
        v = w.t().contiguous()
        f, g = jitted(F.linear, "products"), jitted(torch.matmul, "products")
        times = interleaved(
            {
                "eager linear": lambda x=x, w=w: F.linear(x, w),
                "fulmen linear": lambda f=f, x=x, w=w: f(x, w),
                "eager x @ w": lambda x=x, v=v: x @ v,
                "fulmen x @ w": lambda f=g, x=x, v=v: f(x, v),
            },
            seconds,
        )
        rows.append(
            {"group": "rows", "m": m, "k": k, "n": n, "gigabytes": 4e-9 * k * n,
             "claimed": "products" in fulmen.stats(f).kernels, **times}
        )  # fmt: skip
    return rows


def one_dnn(x: Any, packed: Any, b: Any, *tail: Any) -> Any:
    return torch.ops.mkldnn._linear_pointwise(x, packed, b, *tail)


def epilogues(seconds: float) -> list[Row]:
    """What a pointwise tail costs on its own, after the product, as a generated kernel."""
    rows = []
    for m, k, n in ((16, 768, 3072), (128, 768, 3072), (128, 3072, 768), (512, 512, 512)):
        x, w, b, r = torch.randn(m, k), torch.randn(n, k), torch.randn(n), torch.randn(m, n)

        def tail(x: Any, w: Any, b: Any, r: Any) -> Any:
            return F.gelu(F.linear(x, w, b)) + r

        f, g = jitted(tail, "products", "fusion"), jitted(F.linear, "products")
        packed = torch.ops.mkldnn._reorder_linear_weight(w, m)

        times = interleaved(
            {
                "product": lambda x=x, w=w, b=b, g=g: g(x, w, b),
                "eager": lambda x=x, w=w, b=b, r=r: tail(x, w, b, r),
                "fulmen": lambda x=x, w=w, b=b, r=r, f=f: f(x, w, b, r),
                "oneDNN": lambda x=x, p=packed, b=b: one_dnn(x, p, b, "none", [], ""),
                "oneDNN with gelu": lambda x=x, p=packed, b=b: one_dnn(x, p, b, "gelu", [], "none"),
            },
            seconds,
        )
        rows.append({"group": "epilogue", "m": m, "k": k, "n": n, **times})
    return rows


_LOSS = """
import json, sys, time
import torch, torch.nn.functional as F
import fulmen
which, dtype, threads = sys.argv[1], getattr(torch, sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)
rows, width, classes = 512, 512, 50257
w = (torch.randn(classes, width) * 0.05).to(dtype).requires_grad_()
x = torch.randn(rows, width).to(dtype).requires_grad_()
y = torch.randint(0, classes, (rows,))
f = lambda x, w, y: F.cross_entropy(F.linear(x, w), y)
if which == "torch chunked":
    options = torch.nn.LinearCrossEntropyOptions()
    f = lambda x, w, y: F.linear_cross_entropy(x, w, y, options=options)
if which.startswith("fulmen"):
    f = fulmen.jit(f, executors=which.split()[1:])
def step():
    f(x, w, y).backward()
    x.grad = w.grad = None
def memory(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
step()
peak = memory("VmHWM") - before
clock = time.thread_time if threads == 1 else time.perf_counter
times = []
for _ in range(4):
    start = clock()
    step()
    times.append((clock() - start) * 1e6)
times.sort()
print(json.dumps({"min": times[0], "median": times[len(times) // 2], "peak_mb": peak}))
"""


def losses(seconds: float) -> list[Row]:
    """A layer of 50257 classes with its loss on 512 rows, forward and backward: time, and memory
    above what was there."""
    del seconds
    rows = []
    threads = str(torch.get_num_threads())
    for dtype in ("float32", "float16", "bfloat16"):
        row: Row = {"group": "loss", "dtype": dtype}
        for which in ("eager", "torch chunked", "fulmen fusion", "fulmen products",
                      "fulmen products fusion"):  # fmt: skip
            by_one = dtype == "float16" or not torch.ops.mkldnn._is_mkldnn_bf16_supported()
            if dtype != "float32" and (which == "torch chunked" or (by_one and which == "eager")):
                continue  # minutes
            done = subprocess.run(
                [sys.executable, "-c", _LOSS, which, dtype, threads],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            row[which] = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
    return rows


GROUPS = {"half": half, "rows": few_rows, "epilogue": epilogues, "loss": losses}


def show(rows: list[Row]) -> None:
    for group in GROUPS:
        own = [r for r in rows if r["group"] == group]
        if not own:
            continue
        variants = list(dict.fromkeys(k for r in own for k, v in r.items() if isinstance(v, dict)))
        labels = [k for k, v in own[0].items() if k != "group" and not isinstance(v, dict)]
        result = measure.table(f"{group}: minimum, µs", *labels, *variants)
        for row in own:
            times = [
                f"{row[v]['min']:.0f}"
                + (f" (+{row[v]['peak_mb']:.0f} MB)" if "peak_mb" in row[v] else "")
                if v in row
                else ""
                for v in variants
            ]
            result.add_row(*(str(row[k]) for k in labels), *times)
        measure.console.print(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(GROUPS))
    parser.add_argument("--seconds", type=float, default=0.3, help="for each variant of a row")
    parser.add_argument("--name", default="products", help="of the file with the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    with torch.no_grad():
        for group in args.only.split(","):
            rows += GROUPS[group](args.seconds)
    show(rows)
    measure.save(args.name, rows)


if __name__ == "__main__":
    main()
