"""What Fulmen is measured against: eager PyTorch, and other compilers where they are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

import fulmen

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]

# Methods of tensors that lightning-thunder 0.2.6 looks up at import, and PyTorch has no longer.
GONE = ("align_as", "align_to", "has_names", "refine_names", "rename")


def with_thunder(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in GONE:
        if not hasattr(torch.Tensor, name):
            setattr(torch.Tensor, name, None)
    import thunder

    return thunder.jit(function)


COMPILERS: dict[str, Compile] = {
    "eager": lambda function: function,
    "torch.compile": partial(torch.compile, dynamic=False),
    "lightning-thunder": with_thunder,
    "Fulmen": fulmen.jit,
}


def installed(name: str) -> bool:
    """Whether this machine can run the compiler; torch.compile needs one for C++."""
    match name:
        case "torch.compile":
            return shutil.which(os.environ.get("CXX", "g++")) is not None
        case "lightning-thunder":
            return importlib.util.find_spec("thunder") is not None
        case "JAX":
            return importlib.util.find_spec("jax") is not None
    return True


def chosen(names: Iterable[str]) -> dict[str, Compile]:
    """The compilers of these names in the order of the tables, Fulmen always among them."""
    wanted = {*names, "Fulmen"}
    return {name: c for name, c in COMPILERS.items() if name in wanted}


def available() -> list[str]:
    return [name for name in COMPILERS if installed(name)]
