"""Fulmen: a source-to-source compiler for PyTorch."""

from __future__ import annotations

import torch  # noqa: F401 - first: its libraries are what the core links to

from fulmen import autograd, dynamo, errors, proxy, symbols
from fulmen._core import (
    BoundSymbol,
    NumberProxy,
    Symbol,
    TensorProxy,
    Trace,
    interpret,
    parse_trace,
)
from fulmen.errors import InternalError, UserError
from fulmen.jit import jit, last_prologue, last_traces, stats
from fulmen.trace import trace
from fulmen.transform import KEEP, Transform, rewrite

proxy.install()

__version__ = "0.1.0"

__all__ = [
    "KEEP",
    "BoundSymbol",
    "InternalError",
    "NumberProxy",
    "Symbol",
    "TensorProxy",
    "Trace",
    "Transform",
    "UserError",
    "autograd",
    "dynamo",
    "errors",
    "interpret",
    "jit",
    "last_prologue",
    "last_traces",
    "parse_trace",
    "rewrite",
    "stats",
    "symbols",
    "trace",
]
