"""Fulmen: a source-to-source compiler for PyTorch."""

from __future__ import annotations

import torch  # noqa: F401 - first: its libraries are what the core links to

from fulmen import _core, errors, proxy
from fulmen._core import BoundSymbol, NumberProxy, Symbol, TensorProxy, Trace
from fulmen.errors import InternalError, UserError
from fulmen.trace import trace

proxy.install()

__version__ = "0.1.0"

__all__ = [
    "BoundSymbol",
    "InternalError",
    "NumberProxy",
    "Symbol",
    "TensorProxy",
    "Trace",
    "UserError",
    "errors",
    "trace",
]
