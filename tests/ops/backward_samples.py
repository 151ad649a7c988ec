"""Calls of ATen's own gradient functions, which only gradients make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_aten = torch.ops.aten
_GENERATOR = torch.Generator().manual_seed(1)
_LAST = torch.channels_last
_ALL = [True, True, True]
_SOME = [False, True, True]


def f(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_GENERATOR)


def last(*shape: int) -> torch.Tensor:
    return f(*shape).to(memory_format=_LAST)


def _pointwise(name: str, *scalars: Any, **options: Any) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """(grad_output, self, …), contiguous, transposed, and in two layouts."""
    call = getattr(_aten, name)
    return [
        (f"{name}{which}", lambda g, x: call(g, x, *scalars, **options), operands)
        for which, operands in (
            ("", (f(3, 4), f(3, 4))),
            (" transposed", (f(4, 3).t(), f(4, 3).t())),
            (" of two layouts", (f(4, 3).t(), f(3, 4))),
        )
    ]


def _loss(name: str, reduction: int, *more: Any) -> tuple[str, Any, tuple[Any, ...]]:
    call = getattr(_aten, name)
    grad = f() if reduction else f(4, 3)
    operands = (grad, f(4, 3).sigmoid(), f(3, 4).t().sigmoid())
    return (f"{name} {reduction}", lambda g, x, y: call(g, x, y, reduction, *more), operands)


def _layer_norm(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> Any:
    out, mean, rstd = torch.native_layer_norm(x, [4], w, w, 1e-5)
    grads = _aten.native_layer_norm_backward(g, x, [4], mean, rstd, w, w, _ALL)
    return out, mean, rstd, grads


def _group_norm(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> Any:
    sizes = (x.shape[0], x.shape[1], x.shape[2] * x.shape[3], 2)
    out, mean, rstd = torch.native_group_norm(x, w, w, *sizes, 1e-5)
    return out, mean, _aten.native_group_norm_backward(g, x, mean, rstd, w, *sizes, _ALL)


def _batch_norm(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> Any:
    out, mean, rstd = torch.native_batch_norm(x, w, w, None, None, True, 0.1, 1e-5)
    grads = _aten.native_batch_norm_backward(
        g, x, w, None, None, mean, rstd, True, 1e-5, [True, False, True]
    )
    return out, mean, grads[0], grads[2]


def _batch_norm_of_evaluation(
    x: torch.Tensor, w: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor
) -> Any:
    return _aten.native_batch_norm_backward(g, x, w, m, v, None, None, False, 1e-5, _ALL)


def _flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor) -> Any:
    out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
    grads = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
        g, q, k, v, out, sums, 0.0, True
    )
    return out, sums, grads


def _convolution(dims: int, transposed: bool = False) -> Callable[..., Any]:
    def call(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> Any:
        ones, zeros = [1] * dims, [0] * dims
        grads = _aten.convolution_backward(
            g, x, w, [g.shape[1]], ones, ones, ones, transposed, zeros, 1, _ALL
        )
        some = _aten.convolution_backward(
            g, x, w, [g.shape[1]], ones, ones, ones, transposed, zeros, 1, _SOME
        )
        return *grads, *some[1:]

    return call


def _nll(name: str) -> Callable[..., Any]:
    def call(x: torch.Tensor, y: torch.Tensor) -> Any:
        loss, total = getattr(_aten, f"{name}_forward")(x, y, None, 1, -100)
        return loss, getattr(_aten, f"{name}_backward")(loss, x, y, None, 1, -100, total)

    return call


def _max_pool(dims: int) -> Callable[..., Any]:
    kernel, zeros, ones = [2] * dims, [0] * dims, [1] * dims
    pool = getattr(torch._C._nn, f"max_pool{dims}d_with_indices")
    backward = getattr(_aten, f"max_pool{dims}d_with_indices_backward")

    def call(x: torch.Tensor) -> Any:
        out, indices = pool(x, kernel)
        return backward(out, x, kernel, kernel, zeros, ones, False, indices)

    return call


def _avg_pool(dims: int) -> Callable[..., Any]:
    backward = getattr(_aten, f"avg_pool{dims}d_backward")
    kernel, zeros = [2] * dims, [0] * dims
    return lambda g, x: backward(g, x, kernel, kernel, zeros, False, True, None)


def _adaptive_max_pool(x: torch.Tensor) -> Any:
    out, indices = _aten.adaptive_max_pool2d(x, [2, 2])
    return out, _aten.adaptive_max_pool2d_backward(out, x, indices)


def _upsample(name: str, dims: int, *options: Any) -> tuple[str, Any, tuple[Any, ...]]:
    call = getattr(_aten, f"{name}{dims}d_backward")
    size, sizes = [8] * dims, [1, 4] + [5] * dims
    return (
        f"{name}{dims}d_backward",
        lambda g: call(g, size, sizes, *options),
        (f(1, 4, *[8] * dims),),
    )


def _sampler(dims: int) -> Callable[..., Any]:
    call = getattr(_aten, f"grid_sampler_{dims}d_backward")
    return lambda g, x, grid: call(g, x, grid, 0, 0, False, [True, True])


# Each is (name, function, arguments).
BACKWARD_SAMPLES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    *_pointwise("threshold_backward", 0.5),
    *_pointwise("hardtanh_backward", -0.5, 0.5),
    *_pointwise("leaky_relu_backward", 0.1, False),
    *_pointwise("silu_backward"),
    *_pointwise("mish_backward"),
    *_pointwise("hardswish_backward"),
    *_pointwise("hardsigmoid_backward"),
    *_pointwise("gelu_backward"),
    *_pointwise("gelu_backward", approximate="tanh"),
    *_pointwise("softplus_backward", 2, 1),
    *_pointwise("hardshrink_backward", 0.5),
    *_pointwise("softshrink_backward", 0.5),
    (
        "elu_backward",
        lambda g, x: _aten.elu_backward(g, 1.5, 1.1, 0.9, False, x),
        (f(3, 4), f(3, 4)),
    ),
    (
        "elu_backward of the result",
        lambda g, x: _aten.elu_backward(g, 1.5, 1.1, 0.9, True, x),
        (f(3, 4), f(3, 4)),
    ),
    (
        "log_sigmoid_backward",
        lambda g, x: _aten.log_sigmoid_backward(g, x, _aten.log_sigmoid_forward(x)[1]),
        (f(3, 4), f(3, 4)),
    ),
    (
        "log_sigmoid_backward transposed",
        lambda g, x: _aten.log_sigmoid_backward(g, x, _aten.log_sigmoid_forward(x)[1]),
        (f(4, 3).t(), f(3, 4)),
    ),
    ("glu_backward", lambda g, x: _aten.glu_backward(g, x, 1), (f(3, 4), f(3, 8))),
    ("glu_backward transposed", lambda g, x: _aten.glu_backward(g, x, 1), (f(3, 4), f(8, 3).t())),
    ("_prelu_kernel_backward", _aten._prelu_kernel_backward, (f(2, 3, 4), f(2, 3, 4), f(1, 3, 1))),
    (
        "_softmax_backward_data",
        lambda g, y: _aten._softmax_backward_data(g, y, 1, y.dtype),
        (f(3, 4), f(3, 4).softmax(1)),
    ),
    (
        "_log_softmax_backward_data",
        lambda g, y: _aten._log_softmax_backward_data(g, y, 0, y.dtype),
        (f(4, 3).t(), f(3, 4).log_softmax(0)),
    ),
    ("_safe_softmax", lambda x: torch._safe_softmax(x.log(), -1), (f(5, 4).relu(),)),
    ("native_layer_norm_backward", _layer_norm, (f(3, 4), f(4), f(3, 4))),
    ("native_group_norm_backward", _group_norm, (f(2, 4, 3, 3), f(4), f(2, 4, 3, 3))),
    (
        "native_group_norm_backward, channels_last",
        _group_norm,
        (last(2, 4, 3, 3), f(4), last(2, 4, 3, 3)),
    ),
    ("native_batch_norm_backward", _batch_norm, (f(2, 4, 3, 3), f(4), f(2, 4, 3, 3))),
    (
        "native_batch_norm_backward, channels_last",
        _batch_norm,
        (last(2, 4, 3, 3), f(4), last(2, 4, 3, 3)),
    ),
    (
        "native_batch_norm_backward, evaluation",
        _batch_norm_of_evaluation,
        (f(2, 4, 3, 3), f(4), f(2, 4, 3, 3), f(4), f(4).exp()),
    ),
    (
        "flash attention",
        _flash,
        (f(2, 4, 3, 8), f(2, 2, 5, 8), f(2, 2, 5, 8), f(2, 4, 3, 8)),
    ),
    (
        "flash attention, transposed",
        _flash,
        (f(2, 3, 4, 8).transpose(1, 2), f(2, 2, 5, 8), f(2, 2, 5, 8), f(2, 4, 3, 8)),
    ),
    ("convolution_backward 1d", _convolution(1), (f(2, 6, 9), f(2, 4, 9), f(6, 4, 3))),
    ("convolution_backward 2d", _convolution(2), (f(2, 6, 9, 9), f(2, 4, 9, 9), f(6, 4, 3, 3))),
    (
        "convolution_backward channels_last",
        _convolution(2),
        (f(2, 6, 9, 9), last(2, 4, 9, 9), f(6, 4, 3, 3)),
    ),
    (
        "convolution_backward 3d",
        _convolution(3),
        (f(2, 6, 5, 5, 5), f(2, 4, 5, 5, 5), f(6, 4, 3, 3, 3)),
    ),
    (
        "convolution_backward transposed",
        _convolution(2, True),
        (f(2, 6, 9, 9), f(2, 4, 9, 9), f(4, 6, 3, 3)),
    ),
    (
        "_trilinear",
        lambda x, w, y: torch._trilinear(x, w, y, [1, 3], [0], [1, 2], [2, 3]),
        (f(2, 3), f(5, 3, 4), f(2, 4)),
    ),
    (
        "_cdist_backward",
        lambda g, x, y: _aten._cdist_backward(g, x, y, 2.0, torch.cdist(x, y)),
        (f(2, 3, 4), f(2, 3, 5), f(2, 4, 5)),
    ),
    (
        "embedding_dense_backward",
        lambda g, i: _aten.embedding_dense_backward(g, i, 5, 1, False),
        (f(2, 3, 4), torch.tensor([[0, 1, 2], [4, 1, 0]])),
    ),
    ("nll_loss_backward", _nll("nll_loss"), (f(3, 4), torch.tensor([0, 3, 1]))),
    ("nll_loss2d_backward", _nll("nll_loss2d"), (f(2, 4, 1, 3), torch.ones(2, 1, 3).long())),
    *(_loss("mse_loss_backward", r) for r in range(3)),
    *(_loss("smooth_l1_loss_backward", r, 0.5) for r in range(3)),
    *(_loss("huber_loss_backward", r, 0.5) for r in range(3)),
    *(_loss("soft_margin_loss_backward", r) for r in range(3)),
    (
        "binary_cross_entropy_backward",
        lambda g, x, y: _aten.binary_cross_entropy_backward(g, x, y),
        (f(), f(4, 3).t().sigmoid(), f(3, 4).sigmoid()),
    ),
    ("max_pool2d_with_indices_backward", _max_pool(2), (f(2, 4, 6, 6),)),
    ("max_pool2d_with_indices_backward, channels_last", _max_pool(2), (last(2, 4, 6, 6),)),
    ("max_pool3d_with_indices_backward", _max_pool(3), (f(2, 4, 4, 6, 6),)),
    ("avg_pool2d_backward", _avg_pool(2), (f(2, 4, 3, 3), f(2, 4, 6, 6))),
    ("avg_pool2d_backward, channels_last", _avg_pool(2), (f(2, 4, 3, 3), last(2, 4, 6, 6))),
    ("avg_pool3d_backward", _avg_pool(3), (f(2, 4, 3, 3, 3), f(2, 4, 6, 6, 6))),
    (
        "_adaptive_avg_pool2d_backward",
        _aten._adaptive_avg_pool2d_backward,
        (f(2, 4, 3, 3), f(2, 4, 7, 6)),
    ),
    (
        "_adaptive_avg_pool3d_backward",
        _aten._adaptive_avg_pool3d_backward,
        (f(2, 4, 3, 3, 2), f(2, 4, 7, 6, 5)),
    ),
    ("adaptive_max_pool2d_backward", _adaptive_max_pool, (f(2, 4, 6, 7),)),
    ("adaptive_max_pool2d_backward, channels_last", _adaptive_max_pool, (last(2, 4, 6, 7),)),
    *(_upsample("upsample_nearest", n) for n in (1, 2, 3)),
    *(_upsample("_upsample_nearest_exact", n) for n in (1, 2, 3)),
    _upsample("upsample_linear", 1, False),
    _upsample("upsample_bilinear", 2, True),
    _upsample("upsample_bicubic", 2, False),
    _upsample("upsample_trilinear", 3, False),
    (
        "grid_sampler_2d_backward",
        _sampler(2),
        (f(1, 3, 4, 4), last(1, 3, 5, 5), f(1, 4, 4, 2)),
    ),
    (
        "grid_sampler_3d_backward",
        _sampler(3),
        (f(1, 3, 4, 4, 4), f(1, 3, 5, 5, 5), f(1, 4, 4, 4, 3)),
    ),
]
