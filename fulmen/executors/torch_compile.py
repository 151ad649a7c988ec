"""The torch.compile executor: regions through Inductor."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable
from typing import Any

import torch

from fulmen import _core
from fulmen.executor import FusionExecutor, python_callable

log = logging.getLogger("fulmen")


@functools.cache
def problem() -> str:
    """What Inductor lacks here, or an empty string."""
    if not any(shutil.which(c) for c in ("g++", "clang++", "c++")):
        text = (
            "torch.compile needs a C++ compiler at run time (g++ or clang++); none is on the PATH"
        )
        log.warning("%s", text)
        return text
    return ""


class TorchCompileExecutor(FusionExecutor):
    """Compiles regions with torch.compile; equal regions share what was compiled.

    Attributes:
        failures: region → why Inductor could not compile it. PyTorch runs these as they are.
    """

    min_size = 2

    def __init__(self) -> None:
        super().__init__("torch_compile", torch.__version__)
        self.failures: dict[str, str] = {}
        self._compiled: dict[int, list[tuple[_core.Trace, Callable[..., Any]]]] = {}

    def can_fuse(self, bsym: _core.BoundSymbol) -> bool | str:
        if problem():
            return problem()
        if not bsym.symbol.torch_names:
            return "Dynamo knows no function of PyTorch that is this"
        if any(p.device.type not in ("cpu", "cuda") for p in _tensors(bsym.args)):
            return "another device"
        return True

    def fuse(self, region: _core.Trace) -> Callable[..., Any]:
        known = self._compiled.setdefault(region.hash(), [])
        for trace, compiled in known:
            if trace.equals(region):
                return compiled
        compiled = self._compile(region)
        known.append((region, compiled))
        return compiled

    def _compile(self, region: _core.Trace) -> Callable[..., Any]:
        eager = python_callable(region)
        compiled = torch.compile(eager, fullgraph=True, dynamic=False)
        run = compiled

        def call(*args: Any) -> Any:
            nonlocal run
            try:
                return run(*args)
            except Exception as e:
                if run is eager:
                    raise
                # A kernel writes to new tensors alone: it can be run again by PyTorch.
                self.failures[region.name] = f"{type(e).__name__}: {e}"
                log.warning("torch.compile failed on %s, which PyTorch runs: %s", region.name, e)
                run = eager
                return run(*args)

        return call


def _tensors(tree: Any) -> list[_core.TensorProxy]:
    if isinstance(tree, _core.TensorProxy):
        return [tree]
    if isinstance(tree, (tuple, list)):
        return [t for item in tree for t in _tensors(item)]
    return []
