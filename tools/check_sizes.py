"""Warns of source files above 500 lines and fails for those above 800."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cpp", "fulmen", "tests", "benchmarks", "examples", "tools")
SUFFIXES = {".h", ".cpp", ".py"}
WARN, FAIL = 500, 800


def main() -> int:
    failed = False
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            lines = path.read_text().count("\n")
            if lines > WARN:
                failed |= lines > FAIL
                verdict = f"the limit is {FAIL}" if lines > FAIL else f"better below {WARN}"
                print(f"{path.relative_to(ROOT)}: {lines} lines, {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
