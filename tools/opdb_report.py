"""Runs PyTorch's operator database through Fulmen and writes docs/opdb.md.

Every entry of `op_db` runs forward in float32 and one more dtype, with its method, in-place,
operator and out= variants: traced, compiled, run, and compared with eager in values (bit for bit)
and in the metadata of results. Entries run in worker processes, so that a crash is counted against
its entry.
tests/ops/opdb.py says what each check compares, tests/ops/known_differences.py why one may fail.

    python tools/opdb_report.py [--samples N] [--only NAME] [--checks forward,out] [--out PATH]
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
from pathlib import Path

# Bits are compared, and generated kernels round in other places.
os.environ.setdefault("FULMEN_EXECUTORS", "")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "ops"))

import gradients
import opdb
from known_differences import reason_of
from known_gradients import reason_of_gradient
from torch.testing._internal.common_methods_invocations import op_db

CHUNK = 100


class GradientReport:
    """How gradients compare with autograd's, by the way in which they were made."""

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter[str]] = {}
        self.failures: dict[str, collections.Counter[str]] = {}
        self.opaque: collections.Counter[str] = collections.Counter()
        self.refused: dict[str, collections.Counter[str]] = {}

    def add(self, name: str, result: gradients.GradientResult) -> None:
        if result.skip:
            return
        counts = self.counts.setdefault(result.way, collections.Counter())
        counts["samples"] += 1
        if result.way == "opaque":
            for part in result.reason.removeprefix("no rule: ").split("; "):
                self._add_opaque(name, part)
            return
        counts["equal"] += result.passed
        counts["bits"] += result.bits
        counts["strides"] += result.strides
        if not result.passed:
            reason = reason_of_gradient(name, result) or f"UNEXPLAINED: {result.reason}"
            self.failures.setdefault(reason, collections.Counter())[name] += 1

    def _add_opaque(self, name: str, part: str) -> None:
        """`part`: "symbol: why", or "symbol: symbol of its rule: why"."""
        symbol, _, why = part.partition(": ")
        if symbol.startswith("torch."):
            self.opaque[symbol] += 1
        else:
            self.refused.setdefault(f"`{symbol}`: {why}", collections.Counter())[name] += 1

    def lines(self) -> list[str]:
        if not self.counts:
            return []
        total: collections.Counter[str] = collections.Counter()
        for counts in self.counts.values():
            total.update(counts)
        lines = [
            "## Gradients",
            "",
            "In float64, for random cotangents, against `torch.autograd.grad`: all inputs, one of",
            "several inputs, one of several results. A sample counts for the least direct way in",
            "which one of its operations was differentiated; `opaque`: PyTorch's own autograd.",
            "",
            "| way | samples | of all | equal | bit for bit | strides |",
            "|---|---|---|---|---|---|",
        ]
        for way, counts in [*sorted(self.counts.items()), ("all", total)]:
            n = max(counts["samples"], 1)
            of_all = f"{counts['samples']} | {n / max(total['samples'], 1):.2%}"
            if way == "opaque":
                lines.append(f"| {way} | {of_all} | | | |")
                continue
            if way == "all":
                n = max(n - self.counts.get("opaque", collections.Counter())["samples"], 1)
            lines.append(
                f"| {way} | {of_all} | {counts['equal'] / n:.2%} | {counts['bits'] / n:.2%} "
                f"| {counts['strides'] / n:.2%} |"
            )
        lines += ["", "The shares of `all` leave out `opaque`.", ""]
        for reason, where in sorted(self.failures.items(), key=lambda item: -sum(item[1].values())):
            names = ", ".join(f"`{name}` {n}" for name, n in sorted(where.items()))
            lines += [f"- **{sum(where.values())}** {reason}:".replace("|", "\\|"), f"  {names}"]
        lines += ["", "Left to PyTorch's own autograd, which gives eager's gradients:", ""]
        lines += ["Operations whose rule does not cover the call, or that have none:", ""]
        for reason, where in sorted(self.refused.items(), key=lambda item: -sum(item[1].values())):
            names = ", ".join(f"`{name}` {n}" for name, n in sorted(where.items()))
            lines += [f"- **{sum(where.values())}** {reason}:".replace("|", "\\|"), f"  {names}"]
        names = ", ".join(f"`{name}` {n}" for name, n in self.opaque.most_common())
        return [*lines, "", "Callables that are opaque, with the number of samples:", "", names, ""]


class Report:
    """Counts by check, failures by reason, and the opaque callables."""

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self.counts: dict[str, collections.Counter[str]] = {}
        self.failures: dict[str, collections.Counter[str]] = {}
        self.opaque: collections.Counter[str] = collections.Counter()
        self.crashed: list[str] = []
        self.gradients = GradientReport()

    def add(self, name: str, result: opdb.Result) -> None:
        self.entries.add(name)
        counts = self.counts.setdefault(result.check, collections.Counter())
        if result.skip:
            counts["skipped"] += 1
            return
        counts["samples"] += 1
        counts["values"] += result.values
        counts["meta"] += result.meta
        counts["both"] += result.passed
        counts["rows"] += not result.opaque
        if result.check == "forward":
            for callable_name in set(result.opaque):
                self.opaque[callable_name] += 1
        if not result.passed:
            reason = reason_of(name, result) or f"UNEXPLAINED: {result.reason}"
            where = name if result.check == "forward" else f"{name} ({result.check})"
            self.failures.setdefault(reason, collections.Counter())[where] += 1

    def text(self, samples: int) -> str:
        lines = [
            "# PyTorch's operator database",
            "",
            "Made by `tools/opdb_report.py`: every entry of PyTorch's `op_db` on CPU, in float32",
            f"and one more dtype, at most {samples} samples for each, traced, compiled, run and",
            "compared with eager. `tests/ops/opdb.py` says what the checks compare. A sample that",
            "eager refuses, and a check that an entry has no callable for, is not counted.",
            "",
            f"Entries: {len(self.entries)}. Entries that ended the process: {len(self.crashed)}.",
            "",
            "| check | samples | values and metadata equal | values, bit for bit | metadata "
            "| by rows alone |",
            "|---|---|---|---|---|---|",
        ]
        total: collections.Counter[str] = collections.Counter()
        for counts in self.counts.values():
            total.update(counts)
        rows = [(c, self.counts[c]) for c in opdb.CHECKS if c in self.counts]
        for check, counts in [*rows, ("all", total)]:
            n = max(counts["samples"], 1)
            lines.append(
                f"| {check} | {counts['samples']} | {counts['both'] / n:.2%} "
                f"| {counts['values'] / n:.2%} | {counts['meta'] / n:.2%} "
                f"| {counts['rows'] / n:.2%} |"
            )
        lines += ["", *(f"- {c}" for c in self.crashed), ""]
        lines += ["## What differs, and why", ""]
        for reason, where in sorted(self.failures.items(), key=lambda item: -sum(item[1].values())):
            names = ", ".join(f"`{name}` {n}" for name, n in sorted(where.items()))
            lines += [f"- **{sum(where.values())}** {reason}:".replace("|", "\\|"), f"  {names}"]
        lines += ["", *self.gradients.lines()]
        lines += [
            "## Callables that PyTorch runs",
            "",
            "The universal fallback records these as opaque, with the number of forward samples: "
            "they run and differentiate as in",
            "eager, and no executor fuses them.",
            "",
            ", ".join(f"`{name}` {n}" for name, n in self.opaque.most_common()),
        ]
        return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--only", default="")
    parser.add_argument("--checks", default=",".join((*opdb.CHECKS, "gradient")))
    parser.add_argument("--out", default="docs/opdb.md")
    options = parser.parse_args()
    report = Report()
    todo = [i for i, op in enumerate(op_db) if options.only in op.formatted_name]
    checks = tuple(options.checks.split(","))
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        others = tuple(c for c in checks if c != "gradient")
        for name, result in opdb.run_in_worker(chunk, options.samples, others) if others else ():
            if isinstance(result, str):
                report.crashed.append(f"{name}: {result}")
            else:
                report.add(name, result)
        if "gradient" not in checks:
            continue
        for name, outcome in gradients.run_in_worker(chunk, options.samples):
            if isinstance(outcome, str):
                report.crashed.append(f"{name} (gradient): {outcome}")
            else:
                report.gradients.add(name, outcome)
    text = report.text(options.samples)
    print(text.split("## Callables")[0])
    Path(options.out).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
