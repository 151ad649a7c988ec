"""Draws what benchmarks/results/ holds: one SVG and one PNG for each file, bars of time relative to
eager PyTorch, shorter is better."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from measure import RESULTS, console

# What a row is about, and whose time it is.
KEYS = {
    "models": ("kind", "model"),
    "step": ("program",),
    "compile_time": ("program",),
}


def bars(title: str, groups: dict[str, dict[str, float]], unit: str, name: str) -> None:
    """One group of bars for each program, one bar for each peer."""
    peers = list(dict.fromkeys(p for g in groups.values() for p in g))
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.22 * len(groups) * (len(peers) + 1)))
    height = 0.8 / len(peers)
    for i, peer in enumerate(peers):
        at = [n + i * height for n, g in enumerate(groups.values()) if peer in g]
        values = [g[peer] for g in groups.values() if peer in g]
        drawn = axes.barh(at, values, height * 0.9, label=peer)
        axes.bar_label(drawn, fmt="%.2f", padding=2, fontsize=7)
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(groups))], list(groups), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    for suffix in ("svg", "png"):
        figure.savefig(RESULTS / f"{name}.{suffix}", bbox_inches="tight", dpi=120)
    plt.close(figure)


def relative(rows: list[dict], keys: tuple[str, ...]) -> dict[str, dict[str, float]]:
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        groups.setdefault(", ".join(row[k] for k in keys), {})[row["of"]] = row["min_s"]
    return {
        name: {peer: t / group["eager"] for peer, t in group.items()}
        for name, group in groups.items()
    }


def kernels(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Geometric means of the programs."""
    groups: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        group = groups.setdefault(f"{row['dtype']}, {row['elements']:.0e} elements", {})
        for peer, times in row.items():
            if isinstance(times, dict):
                group.setdefault(peer, []).append(times["min_s"] / row["eager"]["min_s"])
    return {
        name: {peer: statistics.geometric_mean(r) for peer, r in group.items()}
        for name, group in groups.items()
    }


def draw(path: Path) -> bool:
    saved = json.loads(path.read_text())
    rows, title = saved["rows"], f"{path.stem}: {saved['machine']['cpu']}"
    if path.stem == "kernels":
        bars(title, kernels(rows), "time relative to eager", path.stem)
    elif path.stem == "compile_time":
        groups: dict[str, dict[str, float]] = {}
        for row in rows:
            groups.setdefault(row["program"], {})[row["of"]] = row["tokens_128_s"]
        bars(title, groups, "seconds of the first call", path.stem)
    elif path.stem in KEYS:
        bars(title, relative(rows, KEYS[path.stem]), "time relative to eager", path.stem)
    else:
        return False
    return True


def main() -> None:
    drawn = [p.stem for p in sorted(RESULTS.glob("*.json")) if draw(p)]
    console.print(f"drawn in {RESULTS}: {', '.join(drawn)} (.svg, .png)")


if __name__ == "__main__":
    main()
