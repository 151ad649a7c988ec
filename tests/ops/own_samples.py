"""Calls that PyTorch's operator database does not make: rows that only these reach."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

from backward_samples import BACKWARD_SAMPLES

_aten = torch.ops.aten
_GENERATOR = torch.Generator().manual_seed(0)


def f(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_GENERATOR)


def i(*shape: int) -> torch.Tensor:
    return torch.randint(1, 5, shape, generator=_GENERATOR)


def c(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_GENERATOR, dtype=torch.complex64)


def b(*shape: int) -> torch.Tensor:
    return f(*shape) > 0


def inplace(name: str, *args: Any, **kwargs: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Writes a copy, so that the result says what was written."""
    return lambda x: getattr(x.clone(), name)(*args, **kwargs)


# Each is (name, function, arguments).
SAMPLES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("add alpha", lambda x, y: torch.add(x, y, alpha=2), (f(2, 3), f(3))),
    ("add_ alpha", lambda x, y: x.clone().add_(y, alpha=2), (f(2, 3), f(3))),
    ("sub alpha", lambda x, y: torch.sub(x, y, alpha=2), (f(2, 3), f(3))),
    ("sub_ alpha", lambda x, y: x.clone().sub_(y, alpha=2), (f(2, 3), f(3))),
    ("rsub alpha", lambda x, y: torch.rsub(x, y, alpha=2), (f(2, 3), f(3))),
    ("number first", lambda x: (torch.add(2, x), torch.mul(2, x), torch.div(2, x)), (f(3),)),
    ("number first, sub", lambda x: (torch.sub(2, x), torch.floor_divide(2, x)), (f(3),)),
    ("number first, remainder", lambda x: torch.remainder(2, x), (f(3),)),
    ("number first, bitwise", lambda x: (torch.bitwise_and(6, x), torch.bitwise_or(6, x)), (i(3),)),
    ("number first, xor", lambda x: torch.bitwise_xor(6, x), (i(3),)),
    ("number first, left shift", lambda x: torch.bitwise_left_shift(6, x), (i(3),)),
    ("number first, right shift", lambda x: torch.bitwise_right_shift(64, x), (i(3),)),
    ("reflected shifts", lambda x: (2 << x, 64 >> x), (i(3),)),
    ("reflected floor division", lambda x: 7 // x, (i(3),)),
    ("number first, pow", lambda x: (torch.pow(2, x), torch.float_power(2, x)), (f(3),)),
    ("number first, comparison", lambda x: (torch.ge(x, 0.0), torch.lt(x, 1)), (f(3),)),
    ("arange", lambda x: x + torch.arange(4), (f(4),)),
    ("arange start", lambda x: x + torch.arange(1, 5), (f(4),)),
    ("randperm", lambda x: x[torch.randperm(4)], (f(4),)),
    ("rand", lambda x: x + torch.rand(4), (f(4),)),
    ("rand_like", torch.rand_like, (f(4),)),
    ("argsort stable", lambda x: torch.argsort(x, dim=0, stable=True), (i(9),)),
    ("sort stable", lambda x: torch.sort(x, dim=0, stable=True), (i(9),)),
    ("atleast_1d", torch.atleast_1d, (f(),)),
    ("atleast_2d", torch.atleast_2d, (f(3),)),
    ("atleast_3d", torch.atleast_3d, (f(3, 2),)),
    ("alpha_dropout", lambda x: F.alpha_dropout(x, 0.5), (f(3, 4),)),
    ("alpha_dropout train", lambda x: F.alpha_dropout(x, 0.5, training=True), (f(3, 4),)),
    ("dropout train", lambda x: F.dropout(x, 0.5), (f(3, 4),)),
    ("torch.dropout", lambda x: torch.dropout(x, 0.5, True), (f(3, 4),)),
    ("torch.alpha_dropout", lambda x: torch.alpha_dropout(x, 0.5, True), (f(3, 4),)),
    ("alpha_dropout in place", lambda x: F.alpha_dropout(x.clone(), 0.5, True, True), (f(3, 4),)),
    ("dropout1d", lambda x: F.dropout1d(x, 0.5), (f(2, 3, 4),)),
    ("dropout2d", lambda x: F.dropout2d(x, 0.5), (f(2, 3, 4, 4),)),
    ("dropout3d", lambda x: F.dropout3d(x, 0.5), (f(2, 3, 2, 4, 4),)),
    ("feature_dropout", lambda x: torch.feature_dropout(x, 0.5, True), (f(2, 3, 4),)),
    ("bernoulli p", lambda x: torch.bernoulli(x, 0.5), (f(9),)),
    ("bernoulli_ p", inplace("bernoulli_", 0.5), (f(9),)),
    ("bernoulli_ tensor", lambda x, p: x.clone().bernoulli_(p), (f(9), f(9).sigmoid())),
    ("bernoulli_ default", inplace("bernoulli_"), (f(9),)),
    ("random_", inplace("random_"), (f(9),)),
    ("random_ to", inplace("random_", 7), (f(9),)),
    ("random_ from", inplace("random_", 3, 7), (f(9),)),
    ("cauchy_", inplace("cauchy_"), (f(9),)),
    ("exponential_", inplace("exponential_"), (f(9),)),
    ("geometric_", inplace("geometric_", 0.5), (f(9),)),
    ("log_normal_", inplace("log_normal_"), (f(9),)),
    ("normal_", inplace("normal_"), (f(9),)),
    ("uniform_", inplace("uniform_"), (f(9),)),
    ("normal, tensor and number", lambda x: torch.normal(x, 2.0), (f(9),)),
    ("normal, number and tensor", lambda x: torch.normal(2.0, x.exp()), (f(9),)),
    ("bucketize a number", lambda x: torch.bucketize(0.5, x), (torch.arange(4.0),)),
    ("searchsorted a number", lambda x: torch.searchsorted(x, 0.5), (torch.arange(4.0),)),
    ("clamp", lambda x: torch.clamp(x, -0.5, 0.5), (f(9),)),
    ("clamp_", inplace("clamp_", -0.5, 0.5), (f(9),)),
    ("conj_physical", torch.conj_physical, (c(3),)),
    ("conj of a real tensor", torch.conj, (f(3),)),
    ("resolve_conj", torch.resolve_conj, (f(3),)),
    ("resolve_neg", torch.resolve_neg, (f(3),)),
    ("contiguous", lambda x: x.t().contiguous(), (f(2, 3),)),
    ("padding same", lambda x, w: F.conv1d(x, w, padding="same"), (f(1, 2, 9), f(3, 2, 3))),
    (
        "padding same, 2d",
        lambda x, w: F.conv2d(x, w, padding="same"),
        (f(1, 2, 9, 9), f(3, 2, 3, 3)),
    ),
    (
        "padding same, 3d",
        lambda x, w: F.conv3d(x, w, padding="same"),
        (f(1, 2, 5, 5, 5), f(3, 2, 3, 3, 3)),
    ),
    ("conv3d", F.conv3d, (f(1, 2, 5, 5, 5), f(3, 2, 3, 3, 3))),
    ("copy", lambda x, y: _aten.copy(x, y), (f(2, 3), f(3))),
    ("transposes of aten", lambda x: (_aten.mH(x), _aten.matrix_H(x)), (f(2, 3),)),
    ("transposes of aten, no dims", lambda x: (_aten.mT(x), _aten.numpy_T(x)), (f(2, 3),)),
    ("copy_", lambda x, y: x.clone().copy_(y), (f(2, 3), f(3))),
    ("fill_ tensor", lambda x, y: x.clone().fill_(y), (f(2, 3), f())),
    ("fill_", inplace("fill_", 2.0), (f(2, 3),)),
    ("zero_", inplace("zero_"), (f(2, 3),)),
    ("cpu", lambda x: x.cpu() + 1, (f(3),)),
    ("detach", lambda x: x.detach() + 1, (f(3),)),
    ("alias", lambda x: torch.ops.aten.alias(x) + 1, (f(3),)),
    ("type", lambda x: x.type(torch.float64), (f(3),)),
    ("type_as", lambda x, y: x.type_as(y), (f(3), i(3))),
    ("to other", lambda x, y: x.to(y), (f(3), i(3))),
    ("_to_copy", lambda x: torch.ops.aten._to_copy(x, dtype=torch.float64), (f(3),)),
    ("view dtype", lambda x: x.view(torch.int32), (f(3),)),
    ("diff", torch.diff, (f(3, 4),)),
    ("einsum", lambda x, y: torch.einsum("bij,bjk->bik", x, y), (f(2, 3, 4), f(2, 4, 5))),
    ("embedding, weight first", torch.embedding, (f(5, 3), i(4))),
    ("gelu_", lambda x: torch._C._nn.gelu_(x.clone()), (f(9),)),
    ("relu_", inplace("relu_"), (f(9),)),
    ("relu6_", lambda x: F.relu6(x.clone(), inplace=True), (f(9),)),
    ("hardswish_", lambda x: F.hardswish(x.clone(), inplace=True), (f(9),)),
    ("hardtanh_", lambda x: F.hardtanh(x.clone(), inplace=True), (f(9),)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (2, 3)), (f(1, 2, 7, 8),)),
    ("instance_norm", F.instance_norm, (f(2, 3, 4),)),
    ("cdist", torch.cdist, (f(2, 4, 3), f(2, 5, 3))),
    ("index", lambda x, y: x[y, 1:], (f(5, 3), i(4))),
    ("index a list", lambda x: (x[[0, 2]], x[:, [-1]], x[[3, 0, 1], 1:]), (f(5, 3),)),
    ("assign to a list", lambda x: _assigned(x, (slice(None), [2, 0]), 1.0), (f(5, 3),)),
    ("index_add", lambda x, y, z: torch.index_add(x, 0, y, z), (f(5, 3), i(4), f(4, 3))),
    ("index_add_", lambda x, y, z: x.clone().index_add_(0, y, z), (f(5, 3), i(4), f(4, 3))),
    (
        "index_reduce",
        lambda x, y, z: torch.index_reduce(x, 0, y, z, "amax"),
        (f(5, 3), i(4), f(4, 3)),
    ),
    (
        "index_reduce_",
        lambda x, y, z: x.clone().index_reduce_(0, y, z, "prod", include_self=False),
        (f(5, 3), i(4), f(4, 3)),
    ),
    ("fold", lambda x: F.fold(x, (4, 5), (2, 2)), (f(2, 12, 12),)),
    ("isin a number", lambda x: torch.isin(x, 2), (i(9),)),
    (
        "kl_div batchmean",
        lambda x, y: F.kl_div(x, y, reduction="batchmean"),
        (f(2, 3).log_softmax(1), f(2, 3).softmax(1)),
    ),
    ("lerp", torch.lerp, (f(3), f(3), f(3))),
    ("lerp_", lambda x, y, z: x.clone().lerp_(y, z), (f(3), f(3), f(3))),
    ("transposes", lambda x: (x.mT, x.mH, x.H, x.T), (f(2, 3),)),
    ("positive", operator.pos, (f(3),)),
    ("real", torch.real, (f(3),)),
    ("real of a complex tensor", torch.real, (c(3),)),
    ("grad mode", lambda x: _without_grad(x), (f(3),)),
    (
        "attention with dropout",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.5),
        (f(1, 2, 3, 4), f(1, 2, 3, 4), f(1, 2, 3, 4)),
    ),
    ("scatter a number", lambda x, y: torch.scatter(x, 0, y, 2.0), (f(5, 3), i(2, 3))),
    ("scatter_ a number", lambda x, y: x.clone().scatter_(0, y, 2.0), (f(5, 3), i(2, 3))),
    ("gammainc", torch.special.gammainc, (f(3).exp(), f(3).exp())),
    ("gammaincc", torch.special.gammaincc, (f(3).exp(), f(3).exp())),
    ("std correction", lambda x: torch.std(x, 0, correction=0), (f(3, 4),)),
    ("std_mean correction", lambda x: torch.std_mean(x, 0, correction=0), (f(3, 4),)),
    ("var correction", lambda x: torch.var(x, 0, correction=0), (f(3, 4),)),
    ("var_mean correction", lambda x: torch.var_mean(x, 0, correction=0), (f(3, 4),)),
    ("tensor_split", lambda x: torch.tensor_split(x, 3), (f(7, 2),)),
    ("tensor_split at indices", lambda x: torch.tensor_split(x, (1, 4)), (f(7, 2),)),
    ("slice_backward", lambda x: _aten.slice_backward(x, (2, 7), 1, 1, 6, 2), (f(2, 3),)),
    ("select_backward", lambda x: _aten.select_backward(x, (2, 4, 3), -2, -1), (f(2, 3),)),
    ("diagonal_backward", lambda x: _aten.diagonal_backward(x, (3, 2, 4), 1, 0, 2), (f(2, 3),)),
    ("unfold_backward", lambda x: _aten.unfold_backward(x, (2, 7), 1, 3, 2), (f(2, 3, 3),)),
    (
        "reflection_pad1d_backward",
        lambda x, y: _aten.reflection_pad1d_backward(y, x, (1, 2)),
        (f(2, 4), f(2, 7)),
    ),
    (
        "reflection_pad2d_backward",
        lambda x, y: _aten.reflection_pad2d_backward(y, x, (1, 2, 0, 1)),
        (f(2, 3, 4), f(2, 4, 7)),
    ),
    (
        "reflection_pad3d_backward",
        lambda x, y: _aten.reflection_pad3d_backward(y, x, (1, 2, 0, 1, 1, 1)),
        (f(2, 2, 3, 4), f(2, 4, 4, 7)),
    ),
    (
        "replication_pad1d_backward",
        lambda x, y: _aten.replication_pad1d_backward(y, x, (1, 2)),
        (f(2, 4), f(2, 7)),
    ),
    (
        "replication_pad2d_backward",
        lambda x, y: _aten.replication_pad2d_backward(y, x, (1, 2, 0, 1)),
        (f(2, 3, 4), f(2, 4, 7)),
    ),
    (
        "replication_pad3d_backward",
        lambda x, y: _aten.replication_pad3d_backward(y, x, (1, 2, 0, 1, 1, 1)),
        (f(2, 2, 3, 4), f(2, 4, 4, 7)),
    ),
    ("sigmoid_backward", lambda x, y: _aten.sigmoid_backward(x, y), (f(2, 3), f(2, 3))),
    (
        "tanh_backward",
        lambda x, y: _aten.tanh_backward(x, y),
        (f(2, 3), f(2, 3).t().contiguous().t()),
    ),
    ("logit_backward", lambda x, y: _aten.logit_backward(x, y), (f(2, 3), f(2, 3).sigmoid())),
    ("logit_backward eps", lambda x, y: _aten.logit_backward(x, y, 0.4), (f(9), f(9).sigmoid())),
    (
        "masked_scatter_backward",
        lambda x, y: _aten.masked_scatter_backward(x, y, (2, 3)),
        (f(2, 4), b(2, 4)),
    ),
    (
        "cumprod_backward",
        lambda x, y: _aten.cumprod_backward(x, y, 1, y.cumprod(1)),
        (f(2, 4), f(2, 4)),
    ),
    (
        "batch norm, functional",
        lambda x, w, m, v: torch.ops.aten._native_batch_norm_legit_functional(
            x, w, w, m, v, True, 0.1, 1e-5
        ),
        (f(2, 3, 4), f(3), f(3), f(3).exp()),
    ),
    ("data", lambda x: x.data * 2, (f(2, 3),)),
    ("determinant and LU", lambda x: _aten._linalg_det(x), (f(2, 3, 3),)),
    ("determinant and LU, transposed", lambda x: _aten._linalg_det(x.mT), (f(3, 3),)),
    (
        "lu_solve",
        lambda x, y: torch.linalg.lu_solve(*torch.linalg.lu_factor(x), y),
        (f(2, 3, 3), f(2, 3, 2)),
    ),
    *(
        (
            f"embedding_bag, mode {mode}",
            lambda w, s, mode=mode: _embedding_bag(w, s, mode),
            (f(6, 3), f(5)),
        )
        for mode in range(3)
    ),
    (
        "lstm_cell",
        lambda x, h, c, w, v: torch.lstm_cell(x, (h, c), w, v),
        (f(3, 5), f(3, 4), f(3, 4), f(16, 5), f(16, 4)),
    ),
    ("gru_cell", torch.gru_cell, (f(3, 5), f(3, 4), f(12, 5), f(12, 4), f(12), f(12))),
    ("rnn_tanh_cell", torch.rnn_tanh_cell, (f(3, 5), f(3, 4), f(4, 5), f(4, 4), f(4), f(4))),
    ("rnn_relu_cell", torch.rnn_relu_cell, (f(3, 5), f(3, 4), f(4, 5), f(4, 4))),
    *BACKWARD_SAMPLES,
]


_INDICES, _OFFSETS = torch.tensor([3, 1, 0, 1, 5]), torch.tensor([0, 2, 2])


def _embedding_bag(weight: torch.Tensor, samples: torch.Tensor, mode: int) -> Any:
    weights = samples if mode == 0 else None
    bags, *rest = _aten._embedding_bag(
        weight, _INDICES, _OFFSETS, False, mode, False, weights, False, 1
    )
    grad = _aten._embedding_bag_backward(
        bags, _INDICES, _OFFSETS, *rest, 6, False, mode, False, weights, 1
    )
    if mode > 0:
        return bags, grad
    return grad, _aten._embedding_bag_per_sample_weights_backward(
        bags, weight, _INDICES, _OFFSETS, rest[0], 0, 1
    )


def _assigned(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    y = x.clone()
    y[index] = value
    return y


def _without_grad(x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = x + 1
    return y * x
