"""The memory-bound programs of kernels.py, and the same in JAX."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

COLUMNS = 1000
SIZES = {"1e4": 10_000, "1e6": 1_000_000, "1e7": 10_000_000}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Program:
    name: str
    function: Callable[..., torch.Tensor]
    inputs: Callable[[int, torch.dtype], tuple[torch.Tensor, ...]]
    jax: Callable[..., Any]  # its first argument is the module jax


def tensors(count: int, vectors: int = 0):
    def make(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        rows = elements // COLUMNS
        full = [torch.randn(rows, COLUMNS).to(dtype) for _ in range(count)]
        return (*full, *(torch.randn(COLUMNS).to(dtype) for _ in range(vectors)))

    return make


def classes(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    rows = elements // COLUMNS
    return torch.randn(rows, COLUMNS).to(dtype), torch.randint(0, COLUMNS, (rows,))


def positions(elements: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    heads, width = 5, 50
    length = elements // (heads * width)
    angles = torch.randn(length, width)
    return tuple(
        t.to(dtype) for t in (torch.randn(heads, length, width), angles.cos(), angles.sin())
    )


def rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def rotary_in_jax(jax: Any, x: Any, cos: Any, sin: Any) -> Any:
    first, second = jax.numpy.split(x, 2, axis=-1)
    return x * cos + jax.numpy.concatenate((-second, first), axis=-1) * sin


def gelu_by_hand(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_by_hand_in_jax(jax: Any, x: Any) -> Any:
    return 0.5 * x * (1 + jax.numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rms_norm_in_jax(jax: Any, x: Any, w: Any) -> Any:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1.2e-7) * w


def layer_norm_in_jax(jax: Any, x: Any, w: Any, b: Any) -> Any:
    centered = x - x.mean(-1, keepdims=True)
    variance = (centered * centered).mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + 1e-5) * w + b


def cross_entropy_in_jax(jax: Any, x: Any, target: Any) -> Any:
    logs = jax.nn.log_softmax(x)
    return -jax.numpy.take_along_axis(logs, target[:, None], axis=1).mean()


PROGRAMS = [
    Program("add", lambda x, y: x + y, tensors(2), lambda jax, x, y: x + y),
    Program(
        "gelu of a sum", lambda x, b: F.gelu(x + b), tensors(1, 1),
        lambda jax, x, b: jax.nn.gelu(x + b, approximate=False),
    ),
    Program("gelu by hand", gelu_by_hand, tensors(1), gelu_by_hand_in_jax),
    Program(
        "multiply-add chain", lambda x, y, b: ((x * y + b) * y + b) * x, tensors(2, 1),
        lambda jax, x, y, b: ((x * y + b) * y + b) * x,
    ),
    Program(
        "RMSNorm", lambda x, w: F.rms_norm(x, (COLUMNS,), w), tensors(1, 1), rms_norm_in_jax
    ),
    Program(
        "residual, RMSNorm", lambda x, y, w: F.rms_norm(x + y, (COLUMNS,), w), tensors(2, 1),
        lambda jax, x, y, w: rms_norm_in_jax(jax, x + y, w),
    ),
    Program(
        "LayerNorm", lambda x, w, b: F.layer_norm(x, (COLUMNS,), w, b), tensors(1, 2),
        layer_norm_in_jax,
    ),
    Program(
        "softmax", lambda x: x.softmax(-1), tensors(1), lambda jax, x: jax.nn.softmax(x)
    ),
    Program(
        "log-softmax", lambda x: x.log_softmax(-1), tensors(1),
        lambda jax, x: jax.nn.log_softmax(x),
    ),
    Program(
        "cross-entropy", lambda x, t: F.cross_entropy(x, t), classes, cross_entropy_in_jax
    ),
    Program("rotary", rotary, positions, rotary_in_jax),
    Program(
        "SwiGLU", lambda x, y: F.silu(x) * y, tensors(2), lambda jax, x, y: jax.nn.silu(x) * y
    ),
]  # fmt: skip


def in_jax(program: Program, inputs: tuple[torch.Tensor, ...]) -> Callable[[], Any]:
    """A call of the jitted program on the same values, which waits for its result."""
    import jax

    def convert(t: torch.Tensor) -> Any:
        if t.dtype is torch.bfloat16:
            return jax.numpy.asarray(t.float().numpy()).astype(jax.numpy.bfloat16)
        return jax.numpy.asarray(t.numpy())

    arrays = [convert(t) for t in inputs]
    jitted = jax.jit(lambda *given: program.jax(jax, *given))
    return lambda: jitted(*arrays).block_until_ready()
