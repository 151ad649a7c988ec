"""Fulmen: a source-to-source compiler for PyTorch."""

from __future__ import annotations

import torch  # noqa: F401 - first: its libraries are what the core links to

from fulmen import (
    autograd,
    dynamo,
    errors,
    examine,
    executors,
    extend,
    losses,
    number,
    proxy,
    symbols,
)
from fulmen._core import (
    BoundSymbol,
    NumberProxy,
    Symbol,
    TensorProxy,
    Trace,
    interpret,
    parse_trace,
)
from fulmen.errors import InternalError, SharpEdgeError, SharpEdgeWarning, UserError
from fulmen.executors import load_plugin
from fulmen.grad import grad, jvp, value_and_grad, vjp
from fulmen.jit import jit, last_prologue, last_traces, stats
from fulmen.memory import MemoryStats, empty_cache, memory_stats
from fulmen.options import CACHE, SHARP_EDGES
from fulmen.trace import trace
from fulmen.transform import KEEP, Transform, rewrite

proxy.install()

__version__ = "0.1.0"

__all__ = [
    "CACHE",
    "KEEP",
    "SHARP_EDGES",
    "BoundSymbol",
    "InternalError",
    "MemoryStats",
    "NumberProxy",
    "SharpEdgeError",
    "SharpEdgeWarning",
    "Symbol",
    "TensorProxy",
    "Trace",
    "Transform",
    "UserError",
    "autograd",
    "dynamo",
    "empty_cache",
    "errors",
    "examine",
    "executors",
    "extend",
    "grad",
    "interpret",
    "jit",
    "jvp",
    "last_prologue",
    "last_traces",
    "load_plugin",
    "losses",
    "memory_stats",
    "number",
    "parse_trace",
    "rewrite",
    "stats",
    "symbols",
    "trace",
    "value_and_grad",
    "vjp",
]
