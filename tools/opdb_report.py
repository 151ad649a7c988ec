"""Runs PyTorch's operator database through Fulmen and writes docs/opdb.md.

Every entry of `op_db` runs forward in float32 and one more dtype: traced, compiled, run, and
compared with eager in values (bit for bit) and in the metadata of the trace's outputs. Entries run
in worker processes, so that a crash is counted against its entry.

    python tools/opdb_report.py [--samples N] [--only NAME] [--out docs/opdb.md]
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CHUNK = 12


def run_entries(indices: list[int], limit: int) -> None:
    """A worker: prints one JSON line for each sample group, and one before each entry."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    torch.set_num_threads(1)
    for index in indices:
        op = op_db[index]
        print(json.dumps({"entry": index, "name": op.formatted_name}), flush=True)
        supported = op.supported_dtypes("cpu")
        others = [
            t for t in (torch.int64, torch.complex64, torch.bool, torch.float64) if t in supported
        ]
        for dtype in [torch.float32] * (torch.float32 in supported) + others[:1]:
            try:
                samples = list(op.sample_inputs("cpu", dtype, requires_grad=False))
            except Exception as e:
                print(json.dumps({"dtype": str(dtype), "skip": f"no samples: {e}"[:200]}))
                continue
            for sample in samples[:limit]:
                result = run_sample(op, sample)
                result["dtype"] = str(dtype)
                print(json.dumps(result), flush=True)


def run_sample(op: Any, sample: Any) -> dict[str, Any]:
    """{"values": bool, "meta": bool, "native": bool, "reason": text} of one sample."""
    import torch
    from torch.utils import _pytree as pytree

    from fulmen import _core
    from fulmen.compile import compile_trace
    from fulmen.trace import trace_call

    args = (sample.input, *sample.args)

    def call(*a: Any, **k: Any) -> Any:
        return op.op(*a, **k)

    try:
        torch.manual_seed(0)
        expected = call(*pytree.tree_map(_clone, args), **pytree.tree_map(_clone, sample.kwargs))
    except Exception as e:
        return {"skip": f"eager raises {type(e).__name__}"}
    try:
        trace, tracer, inputs = trace_call(op.op, args, sample.kwargs)
        compiled = compile_trace(trace)
        dispatch = _core.Dispatch(lambda *a: None)
        dispatch.add(compiled.program, (None,) * len(inputs), ())
        torch.manual_seed(0)
        got = dispatch(*inputs)
    except Exception as e:
        return {
            "values": False,
            "meta": False,
            "native": False,
            "reason": f"{type(e).__name__}: {e}".split("\n")[0][:160],
        }
    meta = _metadata(trace.output) == _metadata(expected)
    values = _equal(got, expected)
    reason = "" if meta else f"trace {_metadata(trace.output)}, eager {_metadata(expected)}"[:200]
    return {
        "values": values,
        "meta": meta,
        "native": not tracer.fallbacks,
        "reason": reason or ("" if values else "values differ"),
    }


def _clone(value: Any) -> Any:
    import torch

    return value.clone() if isinstance(value, torch.Tensor) else value


def _metadata(tree: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    from fulmen import _core

    found: list[Any] = []
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, _core.TensorProxy):
            known = all(isinstance(d, int) for d in leaf.shape)
            found.append(
                (str(leaf.dtype), leaf.ndim)
                if not known
                else (str(leaf.dtype), tuple(leaf.shape), tuple(leaf.strides))
            )
        elif isinstance(leaf, torch.Tensor):
            found.append((str(leaf.dtype), tuple(leaf.shape), tuple(leaf.stride())))
    return found


def _equal(got: Any, expected: Any) -> bool:
    import torch
    from torch.utils import _pytree as pytree

    a, b = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        if isinstance(y, torch.Tensor):
            if not isinstance(x, torch.Tensor) or x.shape != y.shape or x.dtype != y.dtype:
                return False
            if not torch.allclose(x, y, rtol=0, atol=0, equal_nan=True):
                return False
        elif x != y and not (x != x and y != y):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="docs/opdb.md")
    parser.add_argument("--worker", default="")
    options = parser.parse_args()
    if options.worker:
        run_entries([int(i) for i in options.worker.split(",")], options.samples)
        return 0
    from torch.testing._internal.common_methods_invocations import op_db

    todo = [i for i, op in enumerate(op_db) if options.only in op.formatted_name]
    counts: collections.Counter[str] = collections.Counter()
    failures: dict[str, collections.Counter[str]] = {}
    crashed: list[str] = []
    while todo:
        chunk, todo = todo[:CHUNK], todo[CHUNK:]
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--samples",
                str(options.samples),
                "--worker",
                ",".join(map(str, chunk)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        name, last = "", chunk[0]
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                continue
            r = json.loads(line)
            if "entry" in r:
                name, last = r["name"], r["entry"]
                counts["entries"] += 1
            elif "skip" in r:
                counts["skipped"] += 1
            else:
                counts["samples"] += 1
                for key in ("values", "meta", "native"):
                    counts[key] += r[key]
                if not (r["values"] and r["meta"]):
                    failures.setdefault(f"{name} {r['dtype']}", collections.Counter())[
                        r["reason"]
                    ] += 1
        if done.returncode:
            crashed.append(f"{name}: exit {done.returncode} {done.stderr.strip()[-200:]}")
            todo = [i for i in chunk if i > last] + todo
    write(Path(options.out), counts, failures, crashed)
    return 0


def write(
    path: Path,
    counts: collections.Counter[str],
    failures: dict[str, collections.Counter[str]],
    crashed: list[str],
) -> None:
    """The page, and its summary on standard output."""
    n = max(counts["samples"], 1)
    lines = [
        "# PyTorch's operator database",
        "",
        "Made by `tools/opdb_report.py`: forward, float32 and one more dtype, on CPU.",
        "",
        f"- entries: {counts['entries']}; samples: {counts['samples']}; "
        f"without samples, or refused by eager: {counts['skipped']}",
        f"- values equal to eager, bit for bit: {counts['values'] / n:.2%}",
        f"- metadata equal (shape, dtype, strides): {counts['meta'] / n:.2%}",
        f"- samples that ran by rows alone: {counts['native'] / n:.2%}",
        f"- entries that ended the process: {len(crashed)}",
        "",
    ]
    print("\n".join(lines[4:]))
    lines += [f"- {c}" for c in crashed]
    lines += ["", "| entry | samples | reason |", "|---|---|---|"]
    for name, reasons in sorted(failures.items()):
        for reason, count in reasons.items():
            text = reason.replace("|", "\\|")
            lines.append(f"| {name} | {count} | {text} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
