"""All benchmarks, one after the other, then their plots; or those that are named."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from measure import console

ALL = ("kernels", "call_overhead", "compile_time", "models", "step", "memory", "plots")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=ALL, help=", ".join(ALL))
    args = parser.parse_args()
    if unknown := set(args.names) - set(ALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    failed = []
    for name in args.names:
        console.rule(name)
        script = Path(__file__).with_name(f"{name}.py")
        if subprocess.run([sys.executable, str(script)], check=False).returncode:
            failed.append(name)
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
