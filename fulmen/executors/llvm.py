"""Where the CPU's fusion executor finds LLVM."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import sys
from pathlib import Path

from fulmen import _core

log = logging.getLogger("fulmen")

_PACKAGE = "karellen-llvm-core"


@functools.cache
def llvm_problem() -> str:
    """Why no kernels can be generated, or an empty string; loads LLVM at the first call."""
    for path in _libraries():
        _core.suggest_llvm(str(path))
    problem = _core.llvm_problem()
    if problem:
        log.warning("%s", problem)
    return problem


def _libraries() -> list[Path]:
    """The libLLVM of the Python package, wherever pip put it."""
    found = sorted(Path(sys.prefix, "lib").glob("libLLVM.so.*"))
    if found:
        return found[-1:]
    try:
        files = importlib.metadata.distribution(_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(f.locate())).resolve() for f in files if f.name.startswith("libLLVM.so.")]
