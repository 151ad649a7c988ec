"""The executors whose work is done in C++, and plug-ins."""

from __future__ import annotations

import os
from pathlib import Path

from fulmen import _core
from fulmen.executor import Executor


class NativeExecutor(Executor):
    """An executor of the core's, or of a plug-in."""

    def __init__(self, native: _core.Executor) -> None:
        super().__init__(native.name, native)


def built_in(name: str) -> NativeExecutor:
    return NativeExecutor(_core.builtin_executor(name))


def load_library(path: str | os.PathLike[str]) -> NativeExecutor:
    """The executor of a shared library; see `fulmen.extend.load_plugin`."""
    return NativeExecutor(_core.load_plugin(str(Path(path).absolute())))


def include_dir() -> str:
    """The folder of the header for plug-ins: `-I`, then `#include "plugin.h"`."""
    package = Path(__file__).parents[1]
    installed = package / "include" / "fulmen"
    return str(installed if installed.exists() else package.parent / "cpp" / "exec")
