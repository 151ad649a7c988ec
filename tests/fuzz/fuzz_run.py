"""Checks many random programs, with a process for each core; goes on where it was stopped.

    python tests/fuzz/fuzz_run.py --programs 10000 --seed 0

Program number i has the seed `--seed` + i. A failing one is reduced, and saved as a script that
shows both sides. The exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

CHUNK = 100


def check_chunk(first: int, count: int, folder: Path, modes: list[str]) -> None:
    """In a process of its own: writes what it found, and before each program which one it is."""
    import torch
    from fuzz_regions import generate_region
    from fuzz_whole import check_whole

    from fuzz_check import check as check_call
    from fuzz_generate import generate
    from fuzz_reduce import reduce, script

    make = generate_region if "regions" in modes else generate
    kernels = "kernels" in modes or "regions" in modes
    check = functools.partial(check_whole if "whole" in modes else check_call, kernels=kernels)

    faulthandler.enable()
    torch.set_num_threads(1)
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    current = folder / f"{first}.now"
    for seed in range(first, first + count):
        current.write_text(str(seed))
        program = make(seed)
        failure = check(program, counts)
        if failure is None:
            continue
        small = reduce(program, failure, check)
        failure = check(small) or failure
        path = folder / f"seed_{seed}.py"
        path.write_text(script(small, failure, f"seed {seed}"))
        failures.append({"seed": seed, "kind": failure.kind, "script": str(path)})
    current.unlink()
    done = {"counts": counts, "failures": failures}
    (folder / f"{first}_{count}.json").write_text(json.dumps(done))


def run(first: int, programs: int, jobs: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """Runs all chunks that have no result yet; returns everything found."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [
        (start, min(CHUNK, first + programs - start))
        for start in range(first, first + programs, CHUNK)
    ]
    waiting = [c for c in chunks if not (folder / f"{c[0]}_{c[1]}.json").exists()]
    running: dict[subprocess.Popen[bytes], tuple[int, int]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            chunk = waiting.pop(0)
            command = [sys.executable, __file__, "--folder", str(folder), *options, "--chunk"]
            log = (folder / f"{chunk[0]}.log").open("wb")
            running[subprocess.Popen([*command, *map(str, chunk)], stdout=log, stderr=log)] = chunk
        time.sleep(0.2)
        for process in [p for p in running if p.poll() is not None]:
            chunk = running.pop(process)
            if process.returncode != 0:
                _note_crash(chunk, process.returncode, folder, waiting)
    total: collections.Counter[str] = collections.Counter()
    failures = []
    for path in sorted(folder.glob("*.json")):
        start, _, count = path.stem.partition("_")
        if not first <= int(start) < first + programs or int(count) > programs:
            continue
        found = json.loads(path.read_text())
        total.update(found["counts"])
        failures += found["failures"]
    return {"counts": total, "failures": failures}


def _note_crash(
    chunk: tuple[int, int], status: int, folder: Path, waiting: list[tuple[int, int]]
) -> None:
    """The program that ended its process is a failure; the others of the chunk are checked."""
    first, count = chunk
    now = folder / f"{first}.now"
    seed = int(now.read_text()) if now.exists() else first
    print(f"seed {seed}: the process ended with status {status}: {folder}/{first}.log", flush=True)
    failure = {"seed": seed, "kind": f"status {status}", "script": str(folder / f"{first}.log")}
    found = {"counts": {}, "failures": [failure]}
    (folder / f"{seed}_1.json").write_text(json.dumps(found))
    for start, end in ((first, seed), (seed + 1, first + count)):
        if start < end and not (folder / f"{start}_{end - start}.json").exists():
            waiting.insert(0, (start, end - start))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--whole", action="store_true", help="backward inside of the program")
    parser.add_argument("--kernels", action="store_true", help="with generated kernels")
    parser.add_argument("--regions", action="store_true", help="programs of what kernels compute")
    parser.add_argument("--chunk", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    modes = [m for m in ("whole", "kernels", "regions") if getattr(options, m)]
    folder = options.folder or Path("build", "_".join(["fuzz", *modes]))
    if options.chunk:
        check_chunk(*options.chunk, folder, modes)
        return 0
    flags = [f"--{m}" for m in modes]
    found = run(options.seed, options.programs, options.jobs, folder, flags)
    kinds = collections.Counter(f["kind"] for f in found["failures"])
    for failure in found["failures"]:
        print(f"seed {failure['seed']}: {failure['kind']}: {failure['script']}")
    counts = ", ".join(f"{v} {k}" for k, v in sorted(found["counts"].items()))
    print(f"{options.programs} programs, {len(found['failures'])} that differ {dict(kinds)}")
    print(f"of the others: {counts}")
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
