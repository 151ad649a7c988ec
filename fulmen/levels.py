"""The transforms of torch.func (vmap, grad, jvp, …) inside of a program that is traced.

Note [Levels]
PyTorch makes these transforms from levels: Python code enters one, wraps tensors for it, calls the
user's function, and unwraps. That code is followed like any other. While a program is in a level,
every operation runs on fake tensors that are wrapped as eager's would be, and what comes out below
all levels, operations of ATen on plain tensors, is what the trace records. So the numbers, the
random numbers, the errors and the metadata are eager's.

A wrapped value is a proxy of a context of its own; it holds the wrapped fake tensor. A plain fake
tensor holds its proxy, so that proxies live as long as a graph of autograd needs them.
"""

from __future__ import annotations

import numbers
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch._functorch.eager_transforms as eager_transforms
import torch._functorch.predispatch as predispatch
from torch._C import _functorch
from torch.utils import _pytree as pytree

from fulmen import _core, fallback, modes
from fulmen.errors import DataDependentError, Unsupported
from fulmen.level_operations import Operation, Recording, record_operation
from fulmen.source import user_frame

if TYPE_CHECKING:
    from fulmen.tracer import Tracer


def _functions_of_levels() -> list[Callable[..., Any]]:
    """The functions by which PyTorch's Python code enters and leaves levels, wraps and unwraps."""
    native = [f for n, f in vars(_functorch).items() if callable(f) and not isinstance(f, type)]
    wrappers = [
        f
        for f in vars(predispatch).values()
        if callable(f) and getattr(f, "__module__", "") == predispatch.__name__
    ]
    return [*native, *wrappers, eager_transforms._autograd_grad, _ENGINE]


_ENGINE = torch.autograd.graph._engine_run_backward

FUNCTIONS = frozenset(_functions_of_levels())


class Levels:
    """The levels that a traced program is in.

    Attributes:
        active: whether operations belong to a level.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = weakref.proxy(tracer)
        self._stack: list[Any] = []  # PyTorch's levels, the innermost first
        self._tapes = 0
        self._wrapped = _core.Recorder()  # the context of wrapped values
        self._values: dict[int, weakref.ref[Any]] = {}  # proxies of wrapped values, by address
        self._fakes: dict[int, torch.Tensor] = {}  # of plain values, while a level is active
        self._plains: weakref.WeakSet[_Plain] = weakref.WeakSet()

    @property
    def active(self) -> bool:
        return bool(self._stack) or self._tapes > 0

    def concern(self, func: Callable[..., Any], args: Any, kwargs: Any) -> bool:
        """Whether `call` has to carry out a call."""
        if func in FUNCTIONS or self.active:
            return True
        if not self._values:
            return False
        return any(_wrapped_of(leaf) is not None for leaf in pytree.tree_leaves((args, kwargs)))

    def enter_tape(self) -> None:
        """Autograd of plain tensors is PyTorch's own, on fake tensors, until leave_tape."""
        self._tapes += 1
        self.tell_recorder()

    def leave_tape(self, result: Any) -> Any:
        """Ends what enter_tape began, with the values that the program goes on with."""
        self._tapes -= 1
        if not self.active:
            for leaf in pytree.tree_leaves(result):
                fake = self._known_fake(leaf)
                if fake is not None:
                    _check_history(fake, leaf)
        self.tell_recorder()
        return result

    def tell_recorder(self) -> None:
        """Says to the recorder which calls it must leave to this."""
        if not self.active:
            self._fakes.clear()
        self._tracer.recorder.set_levels(len(self._values) > 0, self.active)

    def require_grad(self, proxy: Any, requires_grad: bool) -> bool:
        """Tensor.requires_grad_() of a value; False where it is not the levels' affair."""
        if not self.active and _wrapped_of(proxy) is None:
            return False
        fake = self._known_fake(proxy)
        if _wrapped_of(proxy) is None and (fake is None or fake._fulmen_proxy.is_outer):
            raise Unsupported("requires_grad_() of a value from outside of a transform")
        self.call(torch.Tensor.requires_grad_, (proxy, requires_grad), {})
        return True

    def unwind(self) -> None:
        """Leaves the levels that a program has not left."""
        while self._stack:
            for level in reversed(self._stack):
                _functorch.push_dynamic_layer_stack(level)
            _functorch.pop_dynamic_layer_stack_and_undo_to_depth(0)
            self._stack = []
        self._tapes = 0

    def fake_of(self, proxy: Any) -> torch.Tensor:
        """The fake tensor that a proxy stands for."""
        fake = _wrapped_of(proxy)
        return fake if fake is not None else self._tracer.fakes.of(proxy)

    def seen(self, proxy: Any, attribute: str) -> Any:
        """An attribute of a value as its level sees it; None: what the proxy says."""
        fake = _wrapped_of(proxy)
        if fake is None:
            fake = self._known_fake(proxy) if self.active else None
        if fake is None:
            return None
        with torch._C.DisableTorchFunction():
            return getattr(fake, attribute)

    def suspend(self) -> None:
        """The trace ends; its proxies stand for inputs of a new one when `resume` is called."""
        for plain in self._plains:
            plain.identity = plain.proxy.proxy_id if plain.is_current else -1
        self.tell_recorder()

    def resume(self) -> None:
        """Goes on in the new trace."""
        for plain in self._plains:
            if plain.identity >= 0:
                plain.identity = plain.proxy.proxy_id

    def _known_fake(self, proxy: Any) -> torch.Tensor | None:
        return self._fakes.get(proxy.proxy_id) if isinstance(proxy, _core.TensorProxy) else None

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carries out a call in the levels that the program is in.

        Raises:
            what eager PyTorch raises; Unsupported where the call can't be part of a trace.
        """
        if func is _ENGINE:
            self._check_engine(*args, **kwargs)
        if _functorch.peek_interpreter_stack() is not None:
            raise Unsupported("a transform of torch.func inside of one that the call is made in")
        with torch._C.DisableTorchFunction():
            fake_args, fake_kwargs = pytree.tree_map(self._to_fake, (args, kwargs))
            recording = Recording(self._tracer.fakes.mode)
            try:
                out = self._run(recording, func, fake_args, fake_kwargs)
            finally:
                self._record(recording.operations)
                self.tell_recorder()
            result = pytree.tree_map(self._to_proxy, out)
        self.tell_recorder()
        return result

    def _run(self, recording: Recording, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        random_state = torch.random.get_rng_state()
        call = _caller_in_user_code()
        try:
            with recording:
                for level in reversed(self._stack):
                    _functorch.push_dynamic_layer_stack(level)
                self._stack = []
                try:
                    return call(func, args, kwargs)
                finally:
                    while _functorch.peek_interpreter_stack() is not None:
                        self._stack.append(_functorch.pop_dynamic_layer_stack())
        except Exception as e:
            if fallback.is_not_of_eager(e):
                raise Unsupported(f"{_name_of(func)}() in a transform of torch.func: {e}") from e
            raise
        finally:
            torch.random.set_rng_state(random_state)

    def _check_engine(self, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Gradients of plain tensors: only where the fake tensors have the whole history."""
        inputs = args[3] if len(args) > 3 else kwargs.get("inputs", ())
        if kwargs.get("accumulate_grad", args[5] if len(args) > 5 else True):
            raise Unsupported("backward() inside of the function")
        for tensor in inputs:
            if _wrapped_of(tensor) is not None:
                continue
            fake = self._known_fake(tensor)
            if not self.active:
                raise Unsupported("torch.autograd.grad() inside of the function")
            if fake is None or fake._fulmen_proxy.is_outer:
                raise Unsupported(
                    "torch.autograd.grad() with respect to a value from outside of a transform"
                )

    # From the program's values to fake tensors, and back.

    def _to_fake(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and not isinstance(value, _core.TensorProxy):
            value = self._tracer.recorder.lift(value)
        if isinstance(value, _core.TensorProxy):
            wrapped = _wrapped_of(value)
            return wrapped if wrapped is not None else self._fake_of(value)
        if isinstance(value, _core.NumberProxy):
            raise DataDependentError(
                "a number computed from a tensor is used inside of a transform of torch.func",
                "data-dependent",
            )
        if isinstance(value, slice) and any(
            isinstance(b, _core.TensorProxy) for b in (value.start, value.stop, value.step)
        ):
            raise Unsupported("a slice with tensors as bounds inside of a transform of torch.func")
        if not isinstance(value, _CONSTANTS) and not type(value).__module__.startswith("torch"):
            what = type(value).__name__  # a callable, or what may hold other data at each call
            raise Unsupported(f"an argument of type {what} in a transform of torch.func")
        return value

    def _fake_of(self, proxy: Any) -> torch.Tensor:
        fake = self._fakes.get(proxy.proxy_id)
        if fake is None:
            fake = self._tracer.fakes.make(proxy)
            self._remember(fake, proxy, is_outer=True)
        return fake

    def _remember(self, fake: torch.Tensor, proxy: Any, is_outer: bool) -> None:
        plain = _Plain(proxy, is_outer)
        fake._fulmen_proxy = plain
        if is_outer:
            fake._fulmen_in_outer = True  # in its storage, of which it may be a part
        self._plains.add(plain)
        self._fakes[proxy.proxy_id] = fake

    def _to_proxy(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not _is_wrapped(value):
            plain = _plain_of(value)
            if plain is None:
                raise Unsupported("a tensor of unknown origin in a transform of torch.func")
            if self._tapes == 0:
                _check_history(value, plain)
            return plain
        known = getattr(value, "_fulmen_wrapped", None)
        proxy = known() if known is not None else None
        if proxy is None:
            proxy = self._wrapped.describe(_spec_of(value))
            proxy._fulmen_fake = value
            value._fulmen_wrapped = weakref.ref(proxy)
            address, values = id(proxy), self._values
            values[address] = weakref.ref(proxy, lambda _: values.pop(address, None))
        return proxy

    # Recording.

    def _record(self, operations: list[Operation]) -> None:
        if not operations:
            return
        grad_mode = torch.is_grad_enabled()
        try:
            with modes.autocast_restored():
                for device in ("cpu", "cuda"):
                    torch.set_autocast_enabled(device, False)
                for operation in operations:
                    self._record_one(operation)
        finally:
            _core.set_grad_enabled(grad_mode)

    def _record_one(self, operation: Operation) -> None:
        given = (operation.args, operation.kwargs)
        args, kwargs = pytree.tree_map(self._plain, given)
        _core.set_grad_enabled(operation.grad_mode)
        result = record_operation(self._tracer, operation, args, kwargs)
        results = [p for p in pytree.tree_leaves(result) if isinstance(p, _core.TensorProxy)]
        if len(operation.outputs) != len(results):
            raise Unsupported(f"{operation.func}: its results differ from those of its metadata")
        for tensor in pytree.tree_leaves(given):  # what an in-place operation has moved on
            plain = getattr(tensor, "_fulmen_proxy", None)
            if plain is not None and not plain.is_current:
                plain.identity = plain.proxy.proxy_id
                self._fakes[plain.identity] = tensor
        for fake, proxy in zip(operation.outputs, results, strict=True):
            if _plain_of(fake) is not proxy:
                self._remember(fake, proxy, is_outer=False)

    def _plain(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        plain = _plain_of(value)
        if plain is not None:
            return plain
        if hasattr(value, "fake_mode"):
            raise Unsupported("a tensor of unknown origin in a transform of torch.func")
        return self._tracer.recorder.lift(value)  # a constant of PyTorch's own


class _Plain:
    """The proxy that a plain fake tensor stands for.

    Attributes:
        proxy: as the program has it.
        identity: its id; another one once it was written to where no level saw it.
        is_outer: whether it was there before the level, so that autograd's graph of the fake tensor
            lacks its history.
    """

    __slots__ = ("__weakref__", "identity", "is_outer", "proxy")

    def __init__(self, proxy: Any, is_outer: bool) -> None:
        self.proxy = proxy
        self.identity = proxy.proxy_id
        self.is_outer = is_outer

    @property
    def is_current(self) -> bool:
        return bool(self.identity == self.proxy.proxy_id)


def _plain_of(fake: Any) -> Any:
    plain = getattr(fake, "_fulmen_proxy", None)
    if plain is None:
        return None
    if not plain.is_current:
        raise Unsupported("a value that a transform of torch.func has kept is written to")
    return plain.proxy


_CONSTANTS = (numbers.Number, str, bytes, type(None), type(...), slice, type)


def is_wrapped(proxy: _core.TensorProxy) -> bool:
    """Whether a proxy stands for a value of a level."""
    return "_fulmen_fake" in proxy.__dict__


def _wrapped_of(value: Any) -> Any:
    """The wrapped fake tensor of a value of a level; None for all else."""
    return value.__dict__.get("_fulmen_fake") if isinstance(value, _core.TensorProxy) else None


def _is_wrapped(tensor: torch.Tensor) -> bool:
    return _functorch.is_functorch_wrapped_tensor(tensor) or _functorch.is_legacy_batchedtensor(
        tensor
    )


def _spec_of(wrapped: torch.Tensor) -> tuple[Any, ...]:
    """What Recorder.describe wants to know."""
    shape, strides = tuple(wrapped.shape), wrapped.stride()
    if wrapped.layout != torch.strided or not all(isinstance(d, int) for d in (*shape, *strides)):
        raise Unsupported("a size that only the run knows, inside of a transform of torch.func")
    return ("tensor", wrapped.dtype, wrapped.device, shape, strides, wrapped.requires_grad, None)


def _check_history(fake: torch.Tensor, proxy: Any) -> None:
    with torch._C.DisableTorchFunction():
        requires_grad = fake.requires_grad
    if requires_grad != proxy._requires_grad:
        raise Unsupported("a result of a transform has a history that a trace does not have")


def _name_of(func: Any) -> str:
    return getattr(func, "__name__", None) or str(func)


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _caller_in_user_code() -> Callable[..., Any]:
    """A function that calls another, from where the user's code is: warnings tell that place."""
    frame = user_frame()
    if frame is None:
        return _call
    code = _call.__code__.replace(
        co_filename=frame.f_code.co_filename,
        co_name=frame.f_code.co_name,
        co_firstlineno=(frame.f_lineno or 1) - 1,  # its only line comes after that
    )
    return types.FunctionType(code, frame.f_globals)
