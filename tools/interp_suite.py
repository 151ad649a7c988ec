"""Tests the interpreter on every supported Python that this machine has.

For each: builds the extension `_interp` (no PyTorch needed), compares the programs of
tests/interp/programs.py natively and interpreted, and runs files of CPython's own test suite with
each test's body interpreted. A test that passes natively has to pass interpreted, except those of
tests/interp/known_differences.txt, which have to fail.

    python tools/interp_suite.py             what `make test` runs
    python tools/interp_suite.py --full      every file of tests/interp/cpython_files.txt
    python tools/interp_suite.py --full --write-docs    and the table in docs/interpreter.md

FULMEN_PYTHONS, a list of interpreters with `:` between them, replaces the search.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "interp"
SUPPORTED = ("3.11", "3.12", "3.13")
PASSED = ("passed", "expected failure")
DESCRIBE = """
import importlib.util, os, sys, sysconfig
print("%d.%d" % sys.version_info[:2])
print(sys.implementation.name)
print(int(os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))))
print(int(importlib.util.find_spec("test.test_grammar") is not None))
"""


@dataclass
class Python:
    path: str
    version: str
    has_tests: bool
    module_dir: Path


@dataclass
class FileResult:
    name: str
    total: int = 0  # tests that count: they pass natively
    passed: int = 0
    problems: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)  # known ones
    seconds: float = 0.0


def candidates() -> list[str]:
    if given := os.environ.get("FULMEN_PYTHONS"):
        return given.split(":")
    found = [shutil.which(f"python{v}") for v in SUPPORTED]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(p) for p in sorted(versions.glob("3.*/bin/python"), reverse=True)]
    return [p for p in [sys.executable, *found] if p]


def find_pythons() -> list[Python]:
    """The first usable Python of each supported version; says what it did not find."""
    pythons: dict[str, Python] = {}
    remarks: dict[str, str] = {}
    for path in candidates():
        try:
            out = subprocess.run(
                [path, "-c", DESCRIBE], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        version, implementation, headers, tests = out.stdout.split()
        if version not in SUPPORTED or version in pythons or implementation != "cpython":
            continue
        if headers != "1":
            remarks[version] = f"{path} has no headers (Python.h)"
            continue
        build = ROOT / "build" / f"interp-{version}"
        pythons[version] = Python(path, version, tests == "1", build)
    for version in SUPPORTED:
        if version not in pythons:
            why = remarks.get(version, "not on this machine")
            print(f"Python {version}: {why}; its tests do not run", flush=True)
    return list(pythons.values())


def build(python: Python) -> None:
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(python.module_dir), "-DFULMEN_INTERP_ONLY=ON",
        "-DFULMEN_INTERP_CHECKS=ON", f"-DPython_EXECUTABLE={python.path}",
    ]  # fmt: skip
    if shutil.which("ninja"):
        configure += ["-G", "Ninja"]
    for command in (configure, ["cmake", "--build", str(python.module_dir), "-j", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def run_programs(python: Python) -> bool:
    """The differential programs, the leak test, the table of opcodes."""
    done = subprocess.run(
        [python.path, str(TESTS / "run_programs.py"), str(python.module_dir)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    print(f"Python {python.version}: {done.stdout.strip().splitlines()[-1:]}", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def worker(python: Python, mode: str, name: str, patterns=()) -> tuple[dict, str]:
    """Outcomes by test, and what went wrong with the process itself."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        command = [python.path, str(TESTS / "cpython_worker.py"), mode, str(python.module_dir)]
        command += [str(result), f"test.{name}", *patterns]
        trouble = ""
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=600, errors="replace"
            )
            if done.returncode:
                trouble = f"exit status {done.returncode}: {done.stderr[-1500:]}"
        except subprocess.TimeoutExpired:
            trouble = "ran for more than 600 s"
        outcomes = {}
        if result.exists():
            for line in result.read_text().splitlines():
                record = json.loads(line)
                if record.get("event") == "start":
                    outcomes[record["id"]] = {"outcome": "did not finish"}
                elif "id" in record:
                    outcomes[record["id"]] = record
        return outcomes, trouble


def known_differences(version: str) -> dict[str, str]:
    known = {}
    for line in (TESTS / "known_differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            versions, test, reason = line.split(maxsplit=2)
            if version in versions.split(","):
                known[test] = reason
    return known


def run_file(python: Python, name: str, known: dict[str, str]) -> FileResult:
    began = time.monotonic()
    result = FileResult(name)
    outcomes, trouble = worker(python, "emulate", name)
    failing = {t: r for t, r in outcomes.items() if r["outcome"] not in (*PASSED, "skipped")}
    natively: dict[str, dict] = {}
    if failing or trouble:
        natively, native_trouble = worker(python, "native", name)
        if trouble and not native_trouble:
            result.problems.append(f"{name}: {trouble}")
    for test, record in outcomes.items():
        if record["outcome"] in PASSED:
            result.total += 1
            result.passed += 1
            if test in known:
                result.problems.append(f"{test}: passes, but is listed as a known difference")
    missing = {t: {"outcome": "did not run"} for t in natively if t not in outcomes}
    for test, record in {**failing, **missing}.items():
        if natively.get(test, {}).get("outcome") not in PASSED:
            continue
        result.total += 1
        if test in known:
            result.differences.append(f"{test}: {known[test]}")
        else:
            detail = record.get("detail", "")
            result.problems.append(f"{test}: {record['outcome']}\n{detail}")
    result.seconds = time.monotonic() - began
    return result


def exists(python: Python, name: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec('test.{name}') is None)"
    return subprocess.run([python.path, "-c", code]).returncode == 0


def run_cpython(python: Python, names: list[str], jobs: int) -> list[FileResult]:
    known = known_differences(python.version)
    names = [n for n in names if exists(python, n)]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda n: run_file(python, n, known), names))
    total, passed = sum(r.total for r in results), sum(r.passed for r in results)
    differences = sum(len(r.differences) for r in results)
    print(
        f"Python {python.version}: {len(results)} files of CPython's suite, {passed} of {total} "
        f"tests that pass natively pass interpreted, {differences} known differences",
        flush=True,
    )
    for result in results:
        for problem in result.problems:
            print(f"  {python.version} {problem}", flush=True)
    return results


def write_docs(tables: dict[str, list[FileResult]]) -> None:
    page = ROOT / "docs" / "interpreter.md"
    versions = sorted(tables)
    lines = ["| file | " + " | ".join(versions) + " |", "|---|" + "---|" * len(versions)]
    by_name: dict[str, dict[str, FileResult]] = {}
    for version, results in tables.items():
        for result in results:
            by_name.setdefault(result.name, {})[version] = result
    for name in sorted(by_name):
        cells = [
            f"{r.passed} / {r.total}" if (r := by_name[name].get(v)) else "–" for v in versions
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    totals = [
        f"**{sum(r.passed for r in tables[v])} / {sum(r.total for r in tables[v])}**"
        for v in versions
    ]
    lines.append("| all | " + " | ".join(totals) + " |")
    differences = sorted(
        {
            (difference, version)
            for version, results in tables.items()
            for result in results
            for difference in result.differences
        }
    )
    lines += ["", "Known differences:", ""]
    lines += [
        f"- {version} `{d.split(': ')[0]}`: {d.split(': ', 1)[1]}" for d, version in differences
    ]
    if not differences:
        lines[-1:] = ["none."]
    text = page.read_text()
    begin, end = "<!-- table: make test-cpython -->", "<!-- end of table -->"
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    page.write_text(pattern.sub("\n".join([begin, *lines, end]), text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="all files of CPython's suite")
    parser.add_argument("--write-docs", action="store_true", help="update docs/interpreter.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    names = []
    for line in (TESTS / "cpython_files.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, *when = line.split()
            if options.full or when != ["full"]:
                names.append(name)
    ok = True
    tables = {}
    for python in find_pythons():
        build(python)
        ok &= run_programs(python)
        if not python.has_tests:
            print(f"Python {python.version}: {python.path} comes without CPython's test suite")
            continue
        results = run_cpython(python, names, options.jobs)
        tables[python.version] = results
        ok &= not any(r.problems for r in results)
    if options.write_docs:
        write_docs(tables)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
