"""Recording of torch calls: rows first, then the universal fallback.

A `Tracer` owns one recording. Its `call` is what every front end uses for a torch function: it
records the call by the first row that takes it, and otherwise as an opaque symbol whose metadata
come from fake tensors.
"""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from fulmen import _core, fallback, inlining, levels
from fulmen.errors import DataDependentError, Unsupported, UserRuntimeError
from fulmen.source import source_suffix, user_frame

_state = threading.local()

# `2 - x` reaches a front end as operator.sub(2, x); torch's own functions want the tensor first.
_REFLECTED: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.add: torch.Tensor.__radd__,
    operator.sub: torch.Tensor.__rsub__,
    operator.mul: torch.Tensor.__rmul__,
    operator.truediv: torch.Tensor.__rtruediv__,
    operator.floordiv: torch.Tensor.__rfloordiv__,
    operator.mod: torch.Tensor.__rmod__,
    operator.pow: torch.Tensor.__rpow__,
    operator.matmul: torch.Tensor.__rmatmul__,
    operator.and_: torch.Tensor.__rand__,
    operator.or_: torch.Tensor.__ror__,
    operator.xor: torch.Tensor.__rxor__,
    operator.lshift: torch.Tensor.__rlshift__,
    operator.rshift: torch.Tensor.__rrshift__,
    operator.lt: torch.Tensor.gt,
    operator.gt: torch.Tensor.lt,
    operator.le: torch.Tensor.ge,
    operator.ge: torch.Tensor.le,
    operator.eq: torch.Tensor.eq,
    operator.ne: torch.Tensor.ne,
}


def is_tracing() -> bool:
    """Whether this thread traces a program."""
    return getattr(_state, "tracer", None) is not None


def current_tracer() -> Tracer:
    """The tracer of this thread; raises where there is none, see `is_tracing`."""
    tracer = getattr(_state, "tracer", None)
    if tracer is None:
        raise DataDependentError(
            "a TensorProxy was used outside the trace that it belongs to", "proxy-outside-trace"
        )
    return tracer


class Tracer:
    """One recording of a program.

    Attributes:
        recorder: the native recorder.
        fallbacks: torch name → reason, for every call recorded as opaque.
        notes: what is done while tracing only, and where.
        warning_filters: those of `warnings` when the recording began.
    """

    def __init__(self, recorder: _core.Recorder | None = None) -> None:
        self.recorder = recorder if recorder is not None else _core.Recorder()
        self.fallbacks: dict[str, str] = {}
        self.notes: list[str] = []
        self.warning_filters = warnings.filters
        self.fakes = fallback.FakeTensors()
        self.levels = levels.Levels(self)
        self._outer: Tracer | None = None
        self._outer_grad = True
        self._inlining: list[Callable[..., Any]] = []  # PyTorch's own Python functions

    def __enter__(self) -> Tracer:
        self._outer_grad = torch.is_grad_enabled()
        self.recorder.enter()
        self._outer = getattr(_state, "tracer", None)
        _state.tracer = self
        return self

    def __exit__(self, *_: object) -> None:
        self.levels.unwind()
        _state.tracer = self._outer
        self.recorder.exit()
        _core.set_grad_enabled(self._outer_grad)

    def restart(self) -> None:
        """Goes on with a new recorder, on traces of what follows; `resume` comes next."""
        self.levels.suspend()
        self.recorder.exit()
        self.recorder = _core.Recorder()
        self.recorder.enter()
        self.fakes = fallback.FakeTensors()

    def resume(self) -> None:
        """The proxies that are in use stand for inputs of the new trace."""
        self.levels.resume()
        self.levels.tell_recorder()

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Records `func(*args, **kwargs)` and returns its result as proxies."""
        special = _SPECIAL.get(func)
        if special is not None:
            return special(self, args, kwargs)
        if kwargs.get("out") is not None:
            return self._call_out(func, args, kwargs)
        if args and func in _REFLECTED and not isinstance(args[0], _core.TensorProxy):
            func, args = _REFLECTED[func], (args[1], args[0])
        return self.record(func, args, kwargs)

    def record(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Records a call that needs no special treatment: by a row, by its body, or as opaque."""
        try:
            result = self.recorder.record(func, args, kwargs)
        except Unsupported as e:
            done, result = self._try_inline(func, args, kwargs)
            if not done:
                known = _with_known_sizes(args, kwargs) if _core.can_ask() else None
                if known is not None:
                    return self.call(func, *known)
                result = fallback.record_opaque(self, func, args, kwargs, str(e))
        return with_field_names(func, result)

    def _try_inline(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bool, Any]:
        """(True, the result) of a function of PyTorch's that is Python over functions with rows."""
        twin = inlining.inlined(func)
        if twin is None or func in self._inlining:
            return False, None
        start, fallbacks = self.recorder.num_recorded, dict(self.fallbacks)
        self._inlining.append(func)
        try:
            with TraceMode(self):
                return True, twin(*args, **kwargs)
        except (Unsupported, DataDependentError):
            if not self.recorder.try_truncate(start):
                raise
            self.fallbacks = fallbacks
            return False, None
        finally:
            self._inlining.pop()

    def _call_out(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """`out=`: the functional call, then a copy into `out`."""
        out = kwargs["out"]
        rest = {k: v for k, v in kwargs.items() if k != "out"}
        outs = out if isinstance(out, (tuple, list)) else (out,)
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if self.recorder.grad_enabled and any(t.requires_grad for t in tensors):
            raise UserRuntimeError(
                f"{func.__name__}(): functions with out=... arguments don't support automatic "
                f"differentiation, but one of the arguments requires grad{source_suffix()}",
                "out-requires-grad",
            )
        if func in _RANDOM:
            # What is drawn, and in which order, depends on the dtype and strides of `out`.
            return fallback.record_opaque(self, func, args, kwargs, "random numbers into out=")
        if "dtype" not in rest and (
            len(tensors) == len(outs) or func.__name__ in _ACCUMULATE_IN_OUT_DTYPE
        ):
            rest["dtype"] = outs[0].dtype
        result = self.call(func, args, rest)
        results = result if isinstance(result, (tuple, list)) else (result,)
        for o, r in zip(outs, results, strict=True):
            if tuple(o.shape) != tuple(r.shape):
                raise Unsupported("an out= tensor of another shape, which would be resized")
            if not torch.can_cast(r.dtype, o.dtype):
                raise UserRuntimeError(
                    f"result type {r.dtype} can't be cast to the desired output type {o.dtype}"
                    f"{source_suffix()}",
                    "out-dtype",
                )
            self.call(torch.Tensor.copy_, (o, r), {})
        return None if func in _RETURN_NOTHING_WITH_OUT else out

    def set_source_from_stack(self) -> None:
        """Sets the source line to the innermost frame outside torch and Fulmen."""
        if self._inlining:
            return
        frame = user_frame()
        if frame is not None:
            code = frame.f_code
            self.recorder.set_source(code.co_filename, frame.f_lineno, code.co_name)


def with_field_names(func: Callable[..., Any], result: Any) -> Any:
    """`torch.max(x, 0).values`: a tuple as PyTorch's own named tuple, where it has one."""
    if type(result) is not tuple:
        return result
    named = getattr(torch.return_types, getattr(func, "__name__", ""), None)
    return named(result) if named is not None and named.n_fields == len(result) else result


_RANDOM = {
    torch.bernoulli, torch.multinomial, torch.normal, torch.rand, torch.randint, torch.randn,
    torch.randperm,
}  # fmt: skip

_RETURN_NOTHING_WITH_OUT = {torch.split_copy, torch.split_with_sizes_copy, torch.unbind_copy}

# Reductions that, without a dtype, compute in that of out=.
_ACCUMULATE_IN_OUT_DTYPE = {"sum", "nansum", "prod", "mean", "cumsum", "cumprod"}


class TraceMode(TorchFunctionMode):
    """Catches every torch function while a program is traced by calling it."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.tracer.set_source_from_stack()
        return call_traced(self.tracer, func, args, kwargs or {})


def call_traced(
    tracer: Tracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A torch function as `__torch_function__` sees it: getters and metadata included."""
    if func in _QUESTIONS and _core.can_ask() and isinstance(args[0], _core.TensorProxy):
        return _core.ask(args[0], func.__name__)
    if tracer.levels.concern(func, args, kwargs):
        return tracer.levels.call(func, args, kwargs)
    accessor = getattr(func, "__name__", "")
    if accessor == "__get__":
        return _get_property(tracer, func, args[0])
    if accessor in ("__set__", "__delete__"):
        raise Unsupported(f"assigning to .{_property_name(func)} of a traced tensor")
    if func in fallback.METADATA_FUNCTIONS:
        return fallback.call_on_metadata(tracer, func, args, kwargs)
    return tracer.call(func, args, kwargs)


# Methods that ask for the value of a tensor. fulmen.jit runs what was recorded, and answers.
_QUESTIONS = {
    torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__,
    torch.Tensor.__complex__, torch.Tensor.item, torch.Tensor.tolist,
}  # fmt: skip

# Properties of a tensor that are tensors: x.T is a traced operation.
_TENSOR_PROPERTIES = {
    "T": lambda x: x.permute(tuple(range(x.ndim - 1, -1, -1))),
    "mT": lambda x: x.transpose(-2, -1),
    "H": lambda x: x.adjoint() if x.ndim == 2 else x,
    "mH": lambda x: x.adjoint(),
    "data": lambda x: _data(x),
    "real": lambda x: call_traced(current_tracer(), torch.real, (x,), {}),
    "imag": lambda x: call_traced(current_tracer(), torch.imag, (x,), {}),
}


def _data(x: Any) -> Any:
    tracer, func = current_tracer(), torch.ops.aten.data
    return x.detach() if tracer.levels.concern(func, (x,), {}) else tracer.record(func, (x,), {})


def _property_name(accessor: Any) -> str:
    return accessor.__self__.__name__


def _get_property(tracer: Tracer, func: Any, tensor: Any) -> Any:
    name = _property_name(func)
    if not isinstance(tensor, _core.TensorProxy):
        if name not in _TENSOR_PROPERTIES:
            return func(tensor)
        tensor = tracer.recorder.lift(tensor)
    return getattr(tensor, name)


def _getitem(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, index = args
    if not isinstance(value, (_core.TensorProxy, torch.Tensor)):
        return value[index]
    if _core.can_ask():
        index = _with_known_bounds(index)
        args = (value, index)
    try:
        return tracer.recorder.getitem(value, index)
    except Unsupported as e:
        if _is_scalar_index(index):
            return _select(tracer, value, index)
        return fallback.record_opaque(tracer, torch.Tensor.__getitem__, args, kwargs, str(e))


def _with_known_bounds(index: Any) -> Any:
    """x[a:b] where a bound is a tensor: the size of the result depends on its value."""
    if isinstance(index, tuple):
        return tuple(_with_known_bounds(i) for i in index)
    if not isinstance(index, slice):
        return index
    bounds = (index.start, index.stop, index.step)
    if not any(isinstance(b, _core.TensorProxy) for b in bounds):
        return index
    return slice(
        *(_core.ask(b, "__index__") if isinstance(b, _core.TensorProxy) else b for b in bounds)
    )


def _with_known_sizes(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments with their sizes known, if any is a list of 0-d integer tensors.

    The first argument is left alone: it may be what is stacked.
    """
    changed = False

    def known(value: Any) -> Any:
        nonlocal changed
        if not isinstance(value, (list, tuple)):
            return value
        scalars = [_is_scalar_index(v) for v in value]
        if not any(scalars) or not all(
            s or isinstance(v, int) for s, v in zip(scalars, value, strict=True)
        ):
            return value
        if all(scalars) and args and value is args[0]:
            return value
        changed = True
        return type(value)(
            _core.ask(v, "__index__") if s and isinstance(v, _core.TensorProxy) else v
            for s, v in zip(scalars, value, strict=True)
        )

    new_args = tuple(known(a) for a in args)
    new_kwargs = {k: known(v) for k, v in kwargs.items()}
    return (new_args, new_kwargs) if changed else None


def _is_scalar_index(index: Any) -> bool:
    return (
        isinstance(index, torch.Tensor)
        and index.ndim == 0
        and not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    )


def _select(tracer: Tracer, value: Any, index: Any) -> Any:
    """x[i] with a 0-d integer tensor: a view whose place only the run knows."""
    if not isinstance(value, _core.TensorProxy):
        value = tracer.recorder.lift(value)
    if value.ndim == 0:
        raise IndexError("invalid index of a 0-dim tensor")
    grad = value.requires_grad and tracer.recorder.grad_enabled
    spec = ("tensor", value.dtype, value.device, value.shape[1:], value.strides[1:], grad, value)
    name = "torch.Tensor.__getitem__"
    tracer.fallbacks.setdefault(name, "an index that only the run knows")
    return tracer.recorder.record_opaque(name, (value, index), {}, spec, False)


def _setitem(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target, index, value = args
    if not isinstance(target, (_core.TensorProxy, torch.Tensor)):
        target[index] = value
        return None
    if _core.can_ask():
        index = _with_known_bounds(index)
        args = (target, index, value)
    try:
        return tracer.recorder.setitem(target, index, value)
    except Unsupported as e:
        return fallback.record_opaque(tracer, torch.Tensor.__setitem__, args, kwargs, str(e))


def _new_tensor(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """torch.tensor of one Python number is a 0-d torch.full, of an empty list an empty tensor."""
    if len(args) == 1 and kwargs.keys() <= {"dtype", "device"}:
        given = {k: v for k, v in kwargs.items() if v is not None}
        if type(args[0]) in (bool, int, float):
            return tracer.call(torch.full, ((), args[0]), given)
        if args[0] == []:
            return tracer.call(torch.zeros, ((0,),), given)
    return fallback.record_opaque(tracer, torch.tensor, args, kwargs, "data of a Python sequence")


def value_needed(method: str, where: str) -> DataDependentError:
    """The error for a program that asks for the value of a tensor where it must be one trace."""
    return DataDependentError(
        f"{method}(): the program needs the value of a tensor, which is not known while it is "
        f"traced; keep the computation in tensors (torch.where, torch.cond), or compile without "
        f"fullgraph=True{where}",
        "data-dependent",
    )


def _bernoulli_(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """With its default spelled out, which the functional torch.bernoulli does not have."""
    if len(args) == 1 and "p" not in kwargs:
        args = (*args, 0.5)
    return tracer.record(torch.Tensor.bernoulli_, args, kwargs)


def _data_dependent(name: str, remedy: str) -> Callable[..., Any]:
    def refuse(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del tracer, args, kwargs
        raise DataDependentError(
            f"{name}: the value of a traced tensor is not known while tracing; {remedy}"
            f"{source_suffix()}",
            "data-dependent",
        )

    return refuse


def enter_tape() -> None:
    """From here PyTorch's autograd differentiates what is traced: see Levels.enter_tape."""
    current_tracer().levels.enter_tape()


def leave_tape(result: Any) -> Any:
    """Ends what enter_tape began; returns `result`, what the program goes on with."""
    return current_tracer().levels.leave_tape(result)


def set_grad_enabled(enabled: bool) -> None:
    """torch._C._set_grad_enabled in a program that is traced: see Note [Modes]."""
    _core.set_grad_enabled(enabled)


def enter_checkpoint() -> None:
    """Begins an activation checkpoint in a program that is traced: see Note [Checkpoints]."""
    current_tracer().recorder.enter_checkpoint()


def leave_checkpoint(redraws: bool) -> None:
    """Ends it; raises Unsupported for what a backward can't compute again as eager does."""
    current_tracer().recorder.leave_checkpoint(redraws)


def refuse(reason: str) -> None:
    """Leaves the call that is followed to eager PyTorch."""
    raise Unsupported(reason)


def clear_autocast_cache() -> None:
    """torch.clear_autocast_cache in a program that is traced."""
    current_tracer().recorder.clear_cast_cache()
    torch.clear_autocast_cache()


def add_operator(operator: Any) -> None:
    """Makes calls of a user's operator be recorded as its symbol."""

    def record(tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return tracer.recorder.record_symbol(operator.symbol, args, kwargs)

    _SPECIAL[operator] = record


_SPECIAL: dict[Any, Callable[[Tracer, tuple[Any, ...], dict[str, Any]], Any]] = {
    operator.getitem: _getitem,
    torch.Tensor.__getitem__: _getitem,
    operator.setitem: _setitem,
    torch.Tensor.__setitem__: _setitem,
    torch.tensor: _new_tensor,
    torch.Tensor.bernoulli_: _bernoulli_,
    torch._C._set_grad_enabled: lambda tracer, args, kwargs: set_grad_enabled(*args, **kwargs),
    # It counts uses of PyTorch's own features, and returns nothing.
    torch._C._log_api_usage_once: lambda tracer, args, kwargs: None,
    torch.Tensor.__bool__: _data_dependent(
        "bool(tensor)", "use torch.where or torch.cond instead of a Python condition"
    ),
    torch.Tensor.tolist: _data_dependent("tolist()", "keep the computation in tensors"),
    torch.Tensor.numpy: _data_dependent("numpy()", "keep the computation in torch"),
    torch.Tensor.__array__: _data_dependent("numpy conversion", "keep the computation in torch"),
}
