"""The Python face of TensorProxy: it passes for a torch.Tensor.

Every method of torch.Tensor becomes a method of the proxy that records; operators included.
`__torch_function__` catches proxies that reach torch functions called by native code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from fulmen import _core, levels
from fulmen.errors import Unsupported
from fulmen.source import source_suffix
from fulmen.tracer import _TENSOR_PROPERTIES, call_traced, current_tracer, is_tracing

TensorProxy = _core.TensorProxy
NumberProxy = _core.NumberProxy


METHODS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""A method of TensorProxy → the method of torch.Tensor that it records."""


def _method(func: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: TensorProxy, *args: Any, **kwargs: Any) -> Any:
        tracer = current_tracer()
        tracer.set_source_from_stack()
        return call_traced(tracer, func, (self, *args), kwargs)

    method.__name__ = getattr(func, "__name__", "method")
    method.__doc__ = f"torch.Tensor.{method.__name__}, recorded."
    METHODS[method] = func
    return method


def _size(self: TensorProxy, dim: int | None = None) -> Any:
    return self.shape if dim is None else self.shape[dim]


def _stride(self: TensorProxy, dim: int | None = None) -> Any:
    return self.strides if dim is None else self.strides[dim]


def _numel(self: TensorProxy) -> int:
    n = 1
    for d in self.shape:
        n *= d
    return n


def _is_contiguous(
    self: TensorProxy, memory_format: torch.memory_format = torch.contiguous_format
) -> bool:
    if memory_format == torch.contiguous_format:
        return self.is_contiguous_default
    fake = current_tracer().levels.fake_of(self)
    with torch._C.DisableTorchFunction():
        return fake.is_contiguous(memory_format=memory_format)


def _format(self: TensorProxy, spec: str) -> str:
    if self.ndim == 0 and _core.can_ask():
        return format(_core.ask(self, "item"), spec)
    return repr(self)


def _iter(self: TensorProxy) -> Iterator[Any]:
    if self.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(self.unbind(0))


def _len(self: TensorProxy) -> int:
    if self.ndim == 0:
        raise TypeError("len() of a 0-d tensor")
    return self.shape[0]


def _torch_function(
    cls: type,
    func: Callable[..., Any],
    types: Any,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    del cls, types
    tracer = current_tracer()
    tracer.set_source_from_stack()
    return call_traced(tracer, func, args, kwargs or {})


_native_shape = TensorProxy.__dict__["shape"]


def _shape(self: TensorProxy) -> Any:
    dims = _native_shape.__get__(self)
    return torch.Size(dims) if all(isinstance(d, int) for d in dims) else dims


_PLAIN: dict[str, Any] = {
    "size": _size,
    "stride": _stride,
    "dim": lambda self: self.ndim,
    "ndimension": lambda self: self.ndim,
    "numel": _numel,
    "nelement": _numel,
    "is_contiguous": _is_contiguous,
    "is_floating_point": lambda self: self.dtype.is_floating_point,
    "is_complex": lambda self: self.dtype.is_complex,
    "element_size": lambda self: self.dtype.itemsize,
    "get_device": lambda self: -1 if self.device.index is None else self.device.index,
    "__len__": _len,
    "__iter__": _iter,
    "__hash__": lambda self: id(self) if levels.is_wrapped(self) else self.proxy_id,
    "__format__": lambda self, spec: _format(self, spec),
}

_PROPERTIES: dict[str, Callable[[TensorProxy], Any]] = {
    **_TENSOR_PROPERTIES,
    "shape": _shape,
    "is_cuda": lambda self: self.device.type == "cuda",
    "is_cpu": lambda self: self.device.type == "cpu",
    "is_meta": lambda self: self.device.type == "meta",
    "is_sparse": lambda self: False,
    "is_quantized": lambda self: False,
    "is_nested": lambda self: False,
    "is_mkldnn": lambda self: False,
    "is_leaf": lambda self: _is_leaf(self),
    "layout": lambda self: torch.strided,
    "itemsize": lambda self: self.dtype.itemsize,
    "nbytes": lambda self: self.dtype.itemsize * _numel(self),
    "grad": lambda self: _core.grad_of(self),
    "grad_fn": lambda self: None,
    "names": lambda self: (None,) * self.ndim,
    "output_nr": lambda self: 0,
    "_version": lambda self: _refuse_version(),
}

# What Python's object protocol or the native class defines, and must not be replaced.
_KEEP = {
    "__class__", "__init__", "__new__", "__del__", "__dict__", "__dir__", "__doc__",
    "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__init_subclass__",
    "__subclasshook__", "__repr__", "__str__", "__sizeof__", "__reduce__", "__reduce_ex__",
    "__setstate__", "__getstate__", "__module__", "__weakref__", "__torch_function__",
    "__torch_dispatch__", "__deepcopy__", "__cuda_array_interface__", "__dlpack__",
    "__dlpack_device__", "__array_priority__", "requires_grad", "requires_grad_",
}  # fmt: skip


def _same_data(x: TensorProxy, y: TensorProxy) -> bool:
    """Whether y is x, or an alias of all of x, as x.detach() is."""
    while not x._is_same(y):
        base = y.view_of
        if base is None or (y.shape, y.strides, y.dtype) != (x.shape, x.strides, x.dtype):
            return False
        y = base
    return True


def _refuse_assignment(name: str) -> Callable[[TensorProxy, Any], None]:
    def refuse(self: TensorProxy, value: Any) -> None:
        if name == "data" and isinstance(value, TensorProxy) and _same_data(self, value):
            return  # module.to() of what is there already
        raise Unsupported(f"assigning to .{name} of a traced tensor{source_suffix()}")

    return refuse


def _refuse_version() -> int:
    raise Unsupported(f"reading ._version of a traced tensor{source_suffix()}")


def _set_requires_grad(self: TensorProxy, requires_grad: bool) -> None:
    _requires_grad_(self, requires_grad)


def _in_level(self: TensorProxy, attribute: str) -> Any:
    return current_tracer().levels.seen(self, attribute) if is_tracing() else None


def _requires_grad(self: TensorProxy) -> bool:
    seen = _in_level(self, "requires_grad")
    return bool(self._requires_grad if seen is None else seen)


def _is_leaf(self: TensorProxy) -> bool:
    seen = _in_level(self, "is_leaf")
    return bool(self.is_leaf_input or not self.requires_grad if seen is None else seen)


def _requires_grad_(self: TensorProxy, requires_grad: bool = True) -> TensorProxy:
    if is_tracing() and current_tracer().levels.require_grad(self, requires_grad):
        return self
    if bool(requires_grad) != self._requires_grad:
        # Only a tensor that the program makes is its own: of another one the caller sees the flag.
        if not requires_grad or self.is_leaf_input or not self.dtype.is_floating_point:
            raise Unsupported(f"requires_grad_({bool(requires_grad)}){source_suffix()}")
        self._set_requires_grad(requires_grad)
    return self


def install() -> None:
    """Gives TensorProxy the methods, operators and properties of torch.Tensor."""
    for name in dir(torch.Tensor):
        if name in _KEEP or name in _PLAIN or name in _PROPERTIES:
            continue
        func = getattr(torch.Tensor, name)
        if callable(func) and not isinstance(func, type):
            setattr(TensorProxy, name, _method(func))
    for name, plain in _PLAIN.items():
        setattr(TensorProxy, name, plain)
    for name, getter in _PROPERTIES.items():
        setattr(TensorProxy, name, property(getter, _refuse_assignment(name)))
    TensorProxy.grad = property(
        _PROPERTIES["grad"], lambda self, value: _core.set_grad(self, value)
    )
    TensorProxy.requires_grad = property(_requires_grad, _set_requires_grad)
    TensorProxy.requires_grad_ = _requires_grad_
    TensorProxy.__torch_function__ = classmethod(_torch_function)


def getters() -> list[Callable[..., Any]]:
    """The functions in Python behind TensorProxy's properties and plain methods."""
    found = list(_PLAIN.values())
    for value in vars(TensorProxy).values():
        if isinstance(value, property) and value.fget is not None:
            found += [f for f in (value.fget, value.fset) if f is not None]
    return [*found, _requires_grad_]
