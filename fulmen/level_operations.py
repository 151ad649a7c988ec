"""Operations of ATen that come out of the levels of torch.func: see Note [Levels]."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from fulmen import _core, fallback
from fulmen.errors import Unsupported, UserError

if TYPE_CHECKING:
    from fulmen.tracer import Tracer


@dataclasses.dataclass
class Operation:
    """An operation of ATen on plain fake tensors.

    Attributes:
        outputs: the tensors in its result.
        metadata: theirs, before later operations changed them in place.
        grad_mode: whether autograd of plain tensors was on.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[torch.Tensor]
    metadata: list[tuple[Any, ...]]
    grad_mode: bool


# They name a place in the storage of their first argument, which may be a part of a larger tensor.
_WITH_OFFSET = {
    torch.ops.aten.as_strided.default: 3,
    torch.ops.aten.as_strided_.default: 3,
    torch.ops.aten.as_strided_copy.default: 3,
    torch.ops.aten.as_strided_scatter.default: 4,
}


def _offset_is_unknown(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    position = _WITH_OFFSET[func]
    offset = args[position] if len(args) > position else kwargs.get("storage_offset")
    if offset is None:
        return False
    return hasattr(args[0], "_fulmen_in_outer")


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


# PyTorch's vmap makes one of each sample where it has no rule for an operation.
_MOST_OPERATIONS = 20_000


class Recording(TorchDispatchMode):
    """Takes down the operations on plain fake tensors."""

    def __init__(self, fake_mode: Any) -> None:
        super().__init__()
        self._fake_mode = fake_mode
        self._in_operation = False
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._in_operation:  # a part of what computes an operation's metadata
            return func(*args, **kwargs)
        grad_mode = torch.is_grad_enabled()
        if func in _WITH_OFFSET and _offset_is_unknown(func, args, kwargs):
            raise Unsupported("as_strided() with an offset into a value from outside of a level")
        func, args, kwargs, is_zero = self._without_zero_tensors(func, args, kwargs, grad_mode)
        out = self._take_down(func, args, kwargs, grad_mode)
        outputs = _tensors(out)
        for tensor in outputs if is_zero else ():
            tensor._fulmen_is_zero = True
        if _is_view(func) and args and hasattr(args[0], "_fulmen_in_outer"):
            for tensor in outputs:
                tensor._fulmen_in_outer = True
        return out

    def _take_down(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grad_mode: bool
    ) -> Any:
        self._in_operation = True
        try:
            with self._fake_mode:
                out = func(*args, **kwargs)
        finally:
            self._in_operation = False
        outputs = _tensors(out)
        if len(self.operations) > _MOST_OPERATIONS:
            raise Unsupported(f"more than {_MOST_OPERATIONS} operations in one call of a transform")
        if outputs or func._schema.is_mutable:
            metadata = [_metadata(t) for t in outputs]
            self.operations.append(Operation(func, args, kwargs, outputs, metadata, grad_mode))
        return out

    def _without_zero_tensors(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], grad_mode: bool
    ) -> tuple[Any, tuple[Any, ...], dict[str, Any], bool]:
        """The operation where no tensor is zero without having data; and whether its result is.

        PyTorch's forward mode has such tensors. They are ordinary zeros here, with what makes a
        difference to numbers: infinity times such a zero is zero.
        """
        if func is torch.ops.aten._efficientzerotensor.default:
            return torch.ops.aten.zeros.default, args, kwargs, True
        zeros = [getattr(a, "_fulmen_is_zero", False) for a in args]
        if not any(zeros):
            return func, args, kwargs, False
        if func._schema.is_mutable:
            raise Unsupported("a tangent that is zero is written to")
        product = func is torch.ops.aten.mul.Tensor
        if product or (func is torch.ops.aten.div.Tensor and zeros == [True, False]):
            if grad_mode and any(t.requires_grad for t in _tensors(args)):
                # Its gradients are zeros, not none.
                value = self._take_down(func, args, kwargs, grad_mode)
                options = {"dtype": torch.bool, "device": value.device}
                everywhere = self._take_down(torch.ops.aten.ones.default, ([],), options, grad_mode)
                return torch.ops.aten.masked_fill.Scalar, (value, everywhere, 0), {}, True
            with self._fake_mode:
                like = func(*args, **kwargs)
            options = {"dtype": like.dtype, "device": like.device}
            return torch.ops.aten.zeros.default, (list(like.shape),), options, True
        return func, args, kwargs, _is_view(func)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def record_operation(
    tracer: Tracer, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Records an operation of ATen: by a row that gives these results, or as opaque."""
    reason = "no row for this operation of ATen"
    func = _PLAIN_TWINS.get(operation.func, operation.func)
    calls = [(candidate, args, kwargs) for candidate in _callables(func)]
    if func in _AS_CALLED:
        named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
        call = _AS_CALLED[func](**named)
        calls += [call] if call is not None else []
    for candidate, given, named in calls:
        start = tracer.recorder.num_recorded
        try:
            result = tracer.recorder.record(candidate, given, named)
        except (Unsupported, UserError) as e:
            reason = str(e)
            continue
        if _metadata_of_proxies(result) == operation.metadata:
            return result
        if not tracer.recorder.try_truncate(start):
            raise Unsupported(f"{func}: its metadata differ from those of its row")
        reason = "other metadata than those of its row"
    result = fallback.record_opaque(tracer, func, args, kwargs, reason)
    if _metadata_of_proxies(result) != operation.metadata:
        raise Unsupported(f"{func}: other metadata inside of a transform than outside")
    return result


def _metadata(fake: torch.Tensor) -> tuple[Any, ...]:
    return tuple(fake.shape), fake.stride(), fake.dtype, fake.device


def _metadata_of_proxies(result: Any) -> list[tuple[Any, ...]]:
    return [
        (tuple(p.shape), tuple(p.strides), p.dtype, p.device)
        for p in pytree.tree_leaves(result)
        if isinstance(p, _core.TensorProxy)
    ]


# Operations that differ from others only for autograd, or in how they keep their result.
_PLAIN_TWINS = {
    torch.ops.aten.lift_fresh.default: torch.ops.aten.clone.default,
    torch.ops.aten._unsafe_view.default: torch.ops.aten.view.default,
}

_REDUCTIONS = ("none", "mean", "sum")


def _softmax(function: Any) -> Callable[..., Any]:
    def call(self: Any, dim: int, half_to_float: bool) -> Any:
        return None if half_to_float else (function, (self, dim), {})

    return call


def _loss(function: Any) -> Callable[..., Any]:
    def call(self: Any, target: Any, reduction: int = 1, **options: Any) -> Any:
        return function, (self, target), {"reduction": _REDUCTIONS[reduction], **options}

    return call


def _convolution(
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Any:
    rank = input.ndim - 2
    if not 1 <= rank <= 3:
        return None
    rest: tuple[Any, ...]
    if transposed:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        rest = (stride, padding, output_padding, groups, dilation)
    else:
        function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        rest = (stride, padding, dilation, groups)
    return function, (input, weight, bias, *rest), {}


def _adaptive_average(function: Any) -> Callable[..., Any]:
    return lambda self, output_size: (function, (self, output_size), {})


def _interpolation(mode: str) -> Callable[..., Any]:
    def call(self: Any, output_size: Any, align_corners: Any = None, **scales: Any) -> Any:
        factors = [f for f in scales.values() if f is not None]
        if factors and len(factors) < self.ndim - 2:
            return None
        size = None if factors else list(output_size)
        named = {"scale_factor": factors or None, "mode": mode, "align_corners": align_corners}
        return F.interpolate, (self, size), named

    return call


# Operations that torch's own functions call with other arguments than they take.
_AS_CALLED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._softmax.default: _softmax(torch.softmax),
    torch.ops.aten._log_softmax.default: _softmax(torch.log_softmax),
    torch.ops.aten.mse_loss.default: _loss(F.mse_loss),
    torch.ops.aten.smooth_l1_loss.default: _loss(F.smooth_l1_loss),
    torch.ops.aten.huber_loss.default: _loss(F.huber_loss),
    torch.ops.aten.soft_margin_loss.default: _loss(F.soft_margin_loss),
    torch.ops.aten.binary_cross_entropy.default: _loss(F.binary_cross_entropy),
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten._adaptive_avg_pool2d.default: _adaptive_average(F.adaptive_avg_pool2d),
    torch.ops.aten._adaptive_avg_pool3d.default: _adaptive_average(F.adaptive_avg_pool3d),
    torch.ops.aten.upsample_nearest1d.default: _interpolation("nearest"),
    torch.ops.aten.upsample_nearest2d.default: _interpolation("nearest"),
    torch.ops.aten.upsample_nearest3d.default: _interpolation("nearest"),
    torch.ops.aten.upsample_linear1d.default: _interpolation("linear"),
    torch.ops.aten.upsample_bilinear2d.default: _interpolation("bilinear"),
    torch.ops.aten.upsample_bicubic2d.default: _interpolation("bicubic"),
    torch.ops.aten.upsample_trilinear3d.default: _interpolation("trilinear"),
}

_NAMESPACES = (torch, torch.Tensor, torch._C._nn, torch.special, torch.linalg, torch.fft)
_callables_of: dict[Any, list[Any]] = {}


def _callables(func: Any) -> list[Any]:
    """The callables with rows that mean the operation of ATen `func`."""
    found = _callables_of.get(func)
    if found is None:
        name = func._schema.name.rpartition("::")[2]
        short = name.removeprefix("special_").removeprefix("linalg_").removeprefix("fft_")
        candidates = [func, func.overloadpacket]
        if func.namespace == "aten":
            candidates += [
                getattr(space, name if i < 3 else short, None)
                for i, space in enumerate(_NAMESPACES)
            ]
        found = [c for c in candidates if c is not None and _core.has_row(c)]
        _callables_of[func] = found
    return found
