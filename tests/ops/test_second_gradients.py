"""Gradients of gradients: of ATen's backward functions, and of inner gradients in whole steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

import gradients

import fulmen

_aten = torch.ops.aten
_GENERATOR = torch.Generator().manual_seed(0)
ALL = [True, True, True]


def c(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_GENERATOR, dtype=torch.float64)


def g(*shape: int) -> torch.Tensor:
    return c(*shape).requires_grad_()


def classes(*shape: int) -> torch.Tensor:
    return torch.randint(0, 4, shape, generator=_GENERATOR)


def _layer_norm(x: Any, grad: Any, weight: Any) -> Any:
    with torch.no_grad():
        _, mean, rstd = torch.native_layer_norm(x, (4,), None, None, 1e-5)
    return _aten.native_layer_norm_backward(grad, x, (4,), mean, rstd, weight, weight, ALL)


def _batch_norm(train: bool, mask: list[bool] = ALL) -> Callable[..., Any]:
    def call(x: Any, grad: Any, weight: Any, mean: Any, var: Any) -> Any:
        stats = [None, None, mean, var] if train else [mean, var, None, None]
        return _aten.native_batch_norm_backward(grad, x, weight, *stats, train, 1e-5, mask)

    return call


def _batch(*shape: int, train: bool = True) -> tuple[torch.Tensor, ...]:
    x = g(*shape)
    dims = [d for d in range(len(shape)) if d != 1]
    mean, var = x.detach().mean(dims), x.detach().var(dims, correction=0)
    return x, g(*shape), g(shape[1]), mean, (var + 1e-5).rsqrt() if train else var


def _convolution(*options: Any, mask: list[bool] = ALL) -> Callable[..., Any]:
    return lambda grad, x, w: _aten.convolution_backward(
        grad, x, w, [grad.shape[1]], *options, mask
    )


def _max_pool(x: Any, grad: Any) -> Any:
    with torch.no_grad():
        _, indices = F.max_pool2d(x, 2, return_indices=True)
    return _aten.max_pool2d_with_indices_backward(
        grad, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
    )


def _log_sigmoid(grad: Any, x: Any) -> Any:
    return _aten.log_sigmoid_backward(grad, x, (-x.detach().abs()).exp())


def _nll(grad: Any, x: Any, target: Any, reduction: int) -> Any:
    total = (target != 1).sum().to(x.dtype)
    function = _aten.nll_loss_backward if x.ndim == 2 else _aten.nll_loss2d_backward
    return function(grad, x, target, None, reduction, 1, total)


BACKWARD: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("layer_norm", _layer_norm, (g(3, 4), g(3, 4), g(4))),
    ("layer_norm, 3-d", _layer_norm, (g(2, 3, 4), g(2, 3, 4), g(4))),
    ("batch_norm", _batch_norm(True), _batch(5, 3)),
    ("batch_norm of planes", _batch_norm(True), _batch(2, 3, 4, 2)),
    ("batch_norm, evaluation", _batch_norm(False), _batch(5, 3, train=False)),
    ("batch_norm, the input's alone", _batch_norm(True, [True, False, False]), _batch(5, 3, 2)),
    (
        "conv2d",
        _convolution([1, 1], [0, 0], [1, 1], False, [0, 0], 1),
        (g(2, 4, 4, 4), g(2, 3, 6, 6), g(4, 3, 3, 3)),
    ),
    (
        "conv2d, strided, in groups",
        _convolution([2, 2], [1, 1], [1, 1], False, [0, 0], 2),
        (g(2, 4, 3, 3), g(2, 4, 5, 5), g(4, 2, 3, 3)),
    ),
    (
        "conv1d, dilated",
        _convolution([1], [2], [2], False, [0], 1),
        (g(2, 4, 7), g(2, 3, 7), g(4, 3, 3)),
    ),
    (
        "conv_transpose2d",
        _convolution([2, 2], [1, 1], [1, 1], True, [1, 1], 1),
        (g(2, 4, 6, 6), g(2, 3, 3, 3), g(3, 4, 3, 3)),
    ),
    (
        "conv2d, the weight's alone",
        _convolution([1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask=[False, True, False]),
        (g(2, 4, 4, 4), g(2, 3, 6, 6), g(4, 3, 3, 3)),
    ),
    ("nll_loss", lambda a, x, t: _nll(a, x, t, 1), (g(), g(6, 4), classes(6))),
    ("nll_loss, none", lambda a, x, t: _nll(a, x, t, 0), (g(6), g(6, 4), classes(6))),
    ("nll_loss2d", lambda a, x, t: _nll(a, x, t, 2), (g(), g(2, 4, 3, 3), classes(2, 3, 3))),
    (
        "embedding",
        lambda a, i: _aten.embedding_dense_backward(a, i, 5, 2, False),
        (g(2, 3, 4), classes(2, 3)),
    ),
    ("max_pool2d", _max_pool, (g(2, 3, 6, 6), g(2, 3, 3, 3))),
    (
        "avg_pool2d",
        lambda a, x: _aten.avg_pool2d_backward(a, x, [2, 2], [2, 2], [1, 1], False, False, None),
        (g(2, 3, 4, 4), g(2, 3, 6, 6)),
    ),
    (
        "avg_pool3d",
        lambda a, x: _aten.avg_pool3d_backward(
            a, x, [2, 2, 2], [2, 2, 2], [0, 0, 0], False, True, 3
        ),
        (g(2, 3, 2, 2, 2), g(2, 3, 4, 4, 4)),
    ),
    (
        "adaptive_avg_pool2d",
        lambda a, x: _aten._adaptive_avg_pool2d_backward(a, x),
        (g(2, 3, 2, 3), g(2, 3, 5, 6)),
    ),
    (
        "interpolate, nearest",
        lambda a: _aten.upsample_nearest2d_backward(a, [5, 7], [2, 3, 3, 4]),
        (g(2, 3, 5, 7),),
    ),
    (
        "interpolate, exact",
        lambda a: _aten._upsample_nearest_exact1d_backward(a, [7], [2, 3, 4]),
        (g(2, 3, 7),),
    ),
    (
        "interpolate, bilinear",
        lambda a: _aten.upsample_bilinear2d_backward(a, [6, 8], [2, 3, 3, 4], False, 2.0, 2.0),
        (g(2, 3, 6, 8),),
    ),
    (
        "interpolate, bicubic",
        lambda a: _aten.upsample_bicubic2d_backward(a, [6, 8], [2, 3, 3, 4], True),
        (g(2, 3, 6, 8),),
    ),
    (
        "interpolate, trilinear",
        lambda a: _aten.upsample_trilinear3d_backward(a, [4, 4, 4], [1, 2, 2, 2, 2], False),
        (g(1, 2, 4, 4, 4),),
    ),
    ("logsigmoid", _log_sigmoid, (g(3, 4), g(3, 4))),
    (
        "soft_margin_loss",
        lambda a, x, y: _aten.soft_margin_loss_backward(a, x, y, 1),
        (g(), g(3, 4), c(3, 4).sign()),
    ),
]


@pytest.mark.parametrize(("name", "fn", "args"), BACKWARD, ids=[name for name, *_ in BACKWARD])
def test_gradients_of_backward_functions(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    result = gradients.GradientResult("gradient", name, 0)
    gradients.compare(result, fn, args, {})
    assert not result.skip and result.passed, result.skip or result.reason
    assert not result.opaque


W, T = c(4), torch.tensor([1, 0, 3])
FUNCTIONS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], tuple[int, ...]]] = {
    "layer_norm": (lambda x: F.layer_norm(x * x, (4,), W, W), (3, 4)),
    "rms_norm": (lambda x: F.rms_norm(x * x, (4,), W, 1e-3), (3, 4)),
    "group_norm": (lambda x: F.group_norm(x * x, 2), (2, 4, 3)),
    "batch_norm": (lambda x: F.batch_norm(x * x, None, None, W, W, True), (3, 4)),
    "instance_norm": (lambda x: F.instance_norm(x * x), (2, 2, 3, 3)),
    "logsigmoid": (lambda x: F.logsigmoid(x * x), (3, 4)),
    "softmax": (lambda x: F.softmax(x * x, -1), (3, 4)),
    "log_softmax": (lambda x: F.log_softmax(x * x, -1), (3, 4)),
    "cross_entropy": (lambda x: F.cross_entropy(x * x, T), (3, 4)),
    "embedding": (lambda x: F.embedding(T, x * x).square(), (5, 4)),
    "conv2d": (lambda x: F.conv2d(x * x, x[:1, :, :3, :3]).square(), (2, 2, 5, 5)),
    "max_pool2d": (lambda x: F.max_pool2d(x * x, 2).square(), (2, 2, 6, 6)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x * x, 2).square(), (2, 2, 6, 6)),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x**2, (2, 3)) ** 2, (2, 2, 6, 6)),
    "interpolate": (
        lambda x: F.interpolate(x * x, scale_factor=2.0, mode="bilinear").square(),
        (2, 2, 3, 3),
    ),
    "cumprod": (lambda x: (x * x).cumprod(1), (2, 4)),
    "cumprod with a zero": (lambda x: (x * (x > x.min())).cumprod(0), (4, 3)),
    "gelu": (lambda x: F.gelu(x * x), (3, 4)),
    "silu": (lambda x: F.silu(x * x), (3, 4)),
    "mse_loss": (lambda x: F.mse_loss(x * x, W), (3, 4)),
    "smooth_l1_loss": (lambda x: F.smooth_l1_loss(x * x, W.expand(3, 4)), (3, 4)),
    "huber_loss": (lambda x: F.huber_loss(x * x, W.expand(3, 4), delta=0.5), (3, 4)),
    "soft_margin_loss": (lambda x: F.soft_margin_loss(x * x, W.sign().expand(3, 4)), (3, 4)),
    "binary_cross_entropy": (
        lambda x: F.binary_cross_entropy(x.sigmoid(), torch.ones_like(x)),
        (3, 4),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_gradients_of_inner_gradients(name: str) -> None:
    fn, shape = FUNCTIONS[name]
    x, v = c(*shape), c(*shape)

    def penalty(grad: Any, x: torch.Tensor) -> torch.Tensor:
        return (grad(lambda y: fn(y).square().sum())(x) * v).sum()

    expected = torch.func.grad(lambda x: penalty(torch.func.grad, x))(x)
    close = {"rtol": 1e-9, "atol": 1e-9 * float(expected.abs().max())}
    twice = fulmen.grad(lambda x: penalty(fulmen.grad, x))(x)
    torch.testing.assert_close(twice, expected, **close)

    def step(x: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(penalty(torch.func.grad, x), [x])[0]

    jitted = fulmen.jit(step)
    torch.testing.assert_close(jitted(x.clone().requires_grad_()), expected, **close)
    assert not fulmen.stats(jitted).splits
