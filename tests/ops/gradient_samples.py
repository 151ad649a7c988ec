"""Gradients that PyTorch's operator database does not try: layouts, half types, statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

_GENERATOR = torch.Generator().manual_seed(2)
_LAST = torch.channels_last
_BF16 = torch.bfloat16


def g(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A parameter."""
    return torch.randn(shape, generator=_GENERATOR).to(dtype).requires_grad_()


def last(*shape: int) -> torch.Tensor:
    with torch.no_grad():
        t = g(*shape).to(memory_format=_LAST)
    return t.requires_grad_()


def transposed(*shape: int) -> torch.Tensor:
    """Of this shape, its first two dimensions stored in the other order."""
    return g(shape[1], shape[0], *shape[2:]).detach().transpose(0, 1).requires_grad_()


def b(*shape: int) -> torch.Tensor:
    return g(*shape, dtype=_BF16)


def c(*shape: int) -> torch.Tensor:
    """A constant."""
    return g(*shape).detach()


def classes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 4, shape, generator=_GENERATOR)


def _attention(**options: Any) -> Callable[..., Any]:
    return lambda q, k, v, *mask: F.scaled_dot_product_attention(q, k, v, *mask, **options)


def _heads(*shape: int) -> tuple[torch.Tensor, ...]:
    return g(*shape), g(*shape), g(*shape)


def _batch_norm(x: torch.Tensor, m: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> Any:
    return F.batch_norm(x, m, v, w, w * 2, True)


# Each is (name, function, arguments): bits, dtypes and strides of all gradients equal autograd's.
GRADIENT_SAMPLES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("linear", F.linear, (g(2, 3, 4), g(5, 4), g(5))),
    (
        "lstm_cell",
        lambda x, h, c, w, v: torch.lstm_cell(x, (h, c), w, v),
        (g(3, 5), g(3, 4), g(3, 4), g(16, 5), g(16, 4)),
    ),
    ("gru_cell", torch.gru_cell, (g(3, 5), g(3, 4), g(12, 5), g(12, 4), g(12), g(12))),
    ("rnn_tanh_cell", torch.rnn_tanh_cell, (g(3, 5), g(3, 4), g(4, 5), g(4, 4), g(4), g(4))),
    ("linear of a transposed input", F.linear, (transposed(3, 2, 4), g(5, 4), g(5))),
    ("linear of a vector", F.linear, (g(4), g(5, 4), g(5))),
    ("linear without bias", F.linear, (g(2, 3, 4), transposed(5, 4))),
    ("linear, bfloat16", F.linear, (b(2, 3, 4), b(5, 4), b(5))),
    ("linear, empty", F.linear, (g(0, 4), g(5, 4), g(5))),
    (
        "addmm with numbers",
        lambda x, y, z: torch.addmm(x, y, z, beta=2, alpha=3.0),
        (g(5), g(3, 4), g(4, 5)),
    ),
    ("matmul of batches", torch.matmul, (g(2, 1, 3, 4), g(5, 4, 6))),
    ("matmul of a batch and a matrix", torch.matmul, (g(2, 3, 4), g(4, 5))),
    ("matmul of a transposed matrix", torch.matmul, (g(3, 4), transposed(4, 5))),
    ("matmul, bfloat16", torch.matmul, (b(2, 3, 4), b(2, 4, 5))),
    ("einsum", lambda x, y: torch.einsum("bij,bjk->bik", x, y), (g(2, 3, 4), g(2, 4, 5))),
    (
        "einsum of one batch",
        lambda x, y: torch.einsum("bhid,bhjd->bhij", x, y),
        (g(1, 3, 4, 5), g(1, 3, 6, 5)),
    ),
    (
        "einsum of one row",
        lambda x, y: torch.einsum("bhid,bhjd->bhij", x, y),
        (g(2, 3, 1, 5), g(2, 3, 6, 5)),
    ),
    (
        "einsum, one row to the end",
        lambda x, y: torch.einsum("bhid,bhjd->bjhi", x, y),
        (g(2, 3, 1, 5), g(2, 3, 6, 5)),
    ),
    (
        "einsum of ones",
        lambda x, y: torch.einsum("id,jd->ij", x, y),
        (g(1, 5), g(1, 5)),
    ),
    (
        "einsum, swapped",
        lambda x, y: torch.einsum("bhid,bhjd->bhji", x, y),
        (g(2, 3, 4, 5), g(2, 3, 6, 5)),
    ),
    ("bilinear", F.bilinear, (g(2, 3), g(2, 4), g(5, 3, 4), g(5))),
    ("silu, bfloat16", F.silu, (b(3, 4),)),
    ("gelu, bfloat16", F.gelu, (b(3, 4),)),
    ("softmax, bfloat16", lambda x: F.softmax(x, -1), (b(3, 4),)),
    ("softmax to float32", lambda x: F.softmax(x, -1, dtype=torch.float32), (b(3, 4),)),
    ("layer_norm", lambda x, w, v: F.layer_norm(x, (4,), w, v), (g(2, 3, 4), g(4), g(4))),
    ("layer_norm without parameters", lambda x: F.layer_norm(x, (3, 4)), (g(2, 3, 4),)),
    ("layer_norm, bfloat16", lambda x, w, v: F.layer_norm(x, (4,), w, v), (b(2, 3, 4), b(4), b(4))),
    ("layer_norm, mixed", lambda x, w, v: F.layer_norm(x, (4,), w, v), (b(2, 3, 4), g(4), g(4))),
    ("rms_norm", lambda x, w: F.rms_norm(x, (4,), w), (g(2, 3, 4), g(4))),
    ("rms_norm, bfloat16", lambda x, w: F.rms_norm(x, (4,), w), (b(2, 3, 4), b(4))),
    ("group_norm", lambda x, w: F.group_norm(x, 2, w, w), (g(2, 4, 3, 3), g(4))),
    ("group_norm, channels_last", lambda x, w: F.group_norm(x, 2, w, w), (last(2, 4, 3, 3), g(4))),
    ("batch_norm in training", _batch_norm, (g(2, 4, 3, 3), c(4), c(4).exp(), g(4))),
    (
        "batch_norm in training, channels_last",
        _batch_norm,
        (last(2, 4, 3, 3), c(4), c(4).exp(), g(4)),
    ),
    ("batch_norm in training, mixed", _batch_norm, (b(2, 4, 3), c(4), c(4).exp(), g(4))),
    (
        "batch_norm",
        lambda x, m, v, w: F.batch_norm(x, m, v, w),
        (last(2, 4, 3, 3), c(4), c(4).exp(), g(4)),
    ),
    ("attention", _attention(), _heads(2, 3, 5, 8)),
    ("attention, causal", _attention(is_causal=True, scale=0.5), _heads(2, 3, 5, 8)),
    ("attention with a bool mask", _attention(), (*_heads(2, 3, 5, 8), c(5, 5) > -0.5)),
    ("attention with a mask", _attention(), (*_heads(2, 3, 5, 8), c(2, 1, 5, 5))),
    (
        "attention with shared heads",
        _attention(enable_gqa=True),
        (g(2, 4, 5, 8), g(2, 2, 5, 8), g(2, 2, 5, 8)),
    ),
    (
        "attention, bfloat16",
        _attention(is_causal=True),
        (b(2, 3, 5, 8), b(2, 3, 5, 8), b(2, 3, 5, 8)),
    ),
    (
        "attention of transposed heads",
        _attention(),
        (g(2, 5, 3, 8).detach().transpose(1, 2).requires_grad_(), g(2, 3, 5, 8), g(2, 3, 5, 8)),
    ),
    ("attention of 3-d tensors", _attention(), _heads(2, 5, 8)),
    ("attention of 3-d tensors, causal", _attention(is_causal=True), _heads(2, 5, 8)),
    ("attention of 3-d tensors, bfloat16", _attention(), (b(2, 5, 8), b(2, 5, 8), b(2, 5, 8))),
    ("attention with dropout", _attention(dropout_p=0.5), _heads(2, 3, 5, 8)),
    ("attention with a mask that has a gradient", _attention(), (*_heads(2, 3, 5, 8), g(5, 5))),
    ("cross_entropy", F.cross_entropy, (g(3, 4), classes(3))),
    ("cross_entropy of planes", F.cross_entropy, (g(2, 4, 5), classes(2, 5))),
    ("cross_entropy with weights", F.cross_entropy, (g(3, 4), classes(3), c(4).exp())),
    (
        "cross_entropy, ignored",
        lambda x, y: F.cross_entropy(x, y, ignore_index=1),
        (g(9, 4), classes(9)),
    ),
    (
        "cross_entropy, smoothed",
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        (g(9, 4), classes(9)),
    ),
    ("cross_entropy of probabilities", F.cross_entropy, (g(3, 4), c(3, 4).softmax(-1))),
    ("cross_entropy, bfloat16", F.cross_entropy, (b(3, 4), classes(3))),
    ("embedding", lambda i, w: F.embedding(i, w, padding_idx=1), (classes(2, 3), g(4, 5))),
    ("dropout", lambda x: F.dropout(x, 0.3), (g(3, 4),)),
    ("dropout of a transposed input", lambda x: F.dropout(x, 0.3), (transposed(3, 4),)),
    ("dropout, bfloat16", lambda x: F.dropout(x, 0.3), (b(3, 4),)),
    ("dropout of all", lambda x: F.dropout(x, 1.0), (g(3, 4),)),
    ("dropout2d", lambda x: F.dropout2d(x, 0.3), (g(2, 3, 4, 4),)),
    ("conv2d, channels_last", F.conv2d, (last(2, 4, 6, 6), g(6, 4, 3, 3), g(6))),
    ("conv2d, channels_last weight", F.conv2d, (g(2, 4, 6, 6), last(6, 4, 3, 3))),
    ("conv2d, unbatched", F.conv2d, (g(4, 6, 6), g(6, 4, 3, 3), g(6))),
    ("conv2d, bfloat16", F.conv2d, (b(2, 4, 6, 6), b(6, 4, 3, 3), b(6))),
    (
        "conv2d, depthwise",
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=4),
        (g(2, 4, 6, 6), g(4, 1, 3, 3)),
    ),
    ("conv1d", F.conv1d, (transposed(4, 2, 9), g(6, 2, 3))),
    ("conv1d, same", lambda x, w: F.conv1d(x, w, padding="same"), (g(2, 4, 9), g(6, 4, 3))),
    (
        "conv_transpose2d",
        lambda x, w: F.conv_transpose2d(x, w, stride=2, output_padding=1),
        (g(2, 4, 6, 6), g(4, 6, 3, 3)),
    ),
    ("max_pool2d, channels_last", lambda x: F.max_pool2d(x, 3, 2, 1), (last(2, 4, 6, 6),)),
    ("max_pool1d", lambda x: F.max_pool1d(x, 2), (g(2, 4, 6),)),
    ("avg_pool2d, channels_last", lambda x: F.avg_pool2d(x, 2), (last(2, 4, 6, 6),)),
    ("adaptive_avg_pool2d to 1", lambda x: F.adaptive_avg_pool2d(x, 1), (g(2, 4, 6, 6),)),
    (
        "adaptive_avg_pool2d to 1, channels_last",
        lambda x: F.adaptive_avg_pool2d(x, 1),
        (last(2, 4, 6, 6),),
    ),
    (
        "adaptive_avg_pool2d, channels_last",
        lambda x: F.adaptive_avg_pool2d(x, 2),
        (last(2, 4, 6, 6),),
    ),
    (
        "interpolate, channels_last",
        lambda x: F.interpolate(x, scale_factor=2.0),
        (last(2, 4, 6, 6),),
    ),
    (
        "interpolate, bilinear",
        lambda x: F.interpolate(x, size=(9, 7), mode="bilinear"),
        (last(2, 4, 6, 6),),
    ),
]
