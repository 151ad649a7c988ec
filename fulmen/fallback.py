"""The universal fallback: torch functions without a row, recorded as opaque symbols.

Their results' metadata come from running them on fake tensors; at run time PyTorch itself runs
them, forward and backward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import _get_overloaded_args as _overloaded  # noqa: F401 - presence check
from torch.overrides import resolve_name
from torch.utils import _pytree as pytree

from fulmen import _core, fake_rules, modes
from fulmen.errors import DataDependentError, Unsupported, UserRuntimeError

if TYPE_CHECKING:
    from fulmen.tracer import Tracer

# Functions whose result is a Python value that depends on metadata alone.
METADATA_FUNCTIONS: set[Callable[..., Any]] = {
    getattr(torch, name)
    for name in (
        "is_floating_point is_complex is_conj is_neg is_signed is_inference is_same_size numel "
        "result_type can_cast is_distributed"
    ).split()
    if hasattr(torch, name)
} | {
    getattr(torch.Tensor, name)
    for name in (
        "size stride dim ndimension numel nelement element_size is_contiguous is_floating_point "
        "is_complex is_signed is_conj is_neg is_inference is_pinned get_device storage_offset "
        "is_same_size is_set_to __len__ dense_dim sparse_dim has_names is_shared type_as_name"
    ).split()
    if hasattr(torch.Tensor, name)
}

_INFERENCE = {torch.is_inference, torch.Tensor.is_inference}

# Functions whose result is one Python number that depends on the data.
_SCALAR_RESULTS: dict[Callable[..., Any], type] = {
    torch.equal: bool,
    torch.Tensor.equal: bool,
    torch.allclose: bool,
    torch.Tensor.allclose: bool,
    torch.is_nonzero: bool,
    torch.Tensor.is_nonzero: bool,
}


class FakeTensors:
    """Fake tensors that stand for the proxies of one trace."""

    def __init__(self) -> None:
        self._mode: Any = None
        self._fakes: dict[int, torch.Tensor] = {}

    @property
    def mode(self) -> Any:
        if self._mode is None:
            # Imported late: it costs 0.3 s that most programs do not need.
            fake_tensor = __import__("torch._subclasses.fake_tensor", fromlist=["FakeTensorMode"])
            shapes = __import__("torch.fx.experimental.symbolic_shapes", fromlist=["ShapeEnv"])
            self._mode = fake_tensor.FakeTensorMode(
                allow_non_fake_inputs=True,
                shape_env=shapes.ShapeEnv(
                    allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True
                ),
            )
        return self._mode

    def of(self, proxy: _core.TensorProxy) -> torch.Tensor:
        fake = self._fakes.get(proxy.proxy_id)
        if fake is None:
            fake = self._fakes[proxy.proxy_id] = self.make(proxy)
        return fake

    def make(self, proxy: _core.TensorProxy) -> torch.Tensor:
        """A fake tensor with the metadata of a proxy, which nothing else stands for."""
        with self.mode, torch.inference_mode(proxy._is_inference), torch.no_grad():
            fake = torch.empty_strided(
                proxy.shape, proxy.strides, dtype=proxy.dtype, device=proxy.device
            )
        if proxy._requires_grad:
            with torch.inference_mode(proxy._is_inference):
                fake.requires_grad_()
            if not proxy.is_leaf_input:
                fake = _non_leaf(fake, proxy)
        return fake

    def forget(self) -> None:
        """Makes them anew from the proxies' metadata."""
        self._fakes.clear()

    def remember(self, proxy: _core.TensorProxy, fake: torch.Tensor) -> None:
        self._fakes[proxy.proxy_id] = fake


def _non_leaf(fake: torch.Tensor, proxy: _core.TensorProxy) -> torch.Tensor:
    with torch.enable_grad():
        return fake.as_strided(proxy.shape, proxy.strides)


def _to_fake(tracer: Tracer, value: Any) -> Any:
    if isinstance(value, _core.TensorProxy):
        return tracer.fakes.of(value)
    if isinstance(value, torch.Tensor):
        return tracer.fakes.of(tracer.recorder.lift(value))
    if isinstance(value, _core.NumberProxy):
        if value.value is None:
            raise DataDependentError(
                "a Python number computed from a tensor is used as an argument of a torch "
                "function that needs its value",
                "data-dependent",
            )
        return value.value
    return value


def call_on_metadata(
    tracer: Tracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Runs a function of metadata on fake tensors and returns its Python result."""
    if func in _INFERENCE and isinstance(args[0], _core.TensorProxy):
        return args[0]._is_inference
    fake_args, fake_kwargs = pytree.tree_map(lambda v: _to_fake(tracer, v), (args, kwargs))
    with torch._C.DisableTorchFunction():
        return func(*fake_args, **fake_kwargs)


def torch_name(func: Callable[..., Any]) -> str | None:
    """The dotted name under which a printed trace finds `func`, or None."""
    if isinstance(func, torch._ops.OpOverload):
        return f"torch.ops.{func}"
    if isinstance(func, torch._ops.OpOverloadPacket):
        return f"torch.ops.{str(func).replace('::', '.')}"
    name = resolve_name(func)
    candidates = [name] if name else []
    qualified = getattr(func, "__qualname__", None)
    module = getattr(func, "__module__", None)
    if qualified and module and module.startswith("torch"):
        candidates.append(f"{module}.{qualified}")
    if qualified and inspect.isbuiltin(func):
        candidates.append(f"torch.{func.__name__}")
        candidates.append(f"torch._C._VariableFunctions.{func.__name__}")
    for candidate in candidates:
        try:
            found = _core.resolve_torch_name(candidate)
        except (AttributeError, ImportError):
            continue
        if found is func or found == func:
            return candidate
    return None


def result_spec(tracer: Tracer, value: Any, bases: dict[int, Any]) -> Any:
    """What record_opaque wants to know of a result; see Recorder.record_opaque."""
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            raise Unsupported("a result that is not a strided tensor")
        shape = tuple(d if isinstance(d, int) else -1 for d in value.shape)
        strides = tuple(d if isinstance(d, int) else -1 for d in value.stride())
        base = bases.get(_storage_id(value))
        return ("tensor", value.dtype, value.device, shape, strides, value.requires_grad, base)
    if isinstance(value, bool):
        return value
    if isinstance(value, (torch.SymBool, torch.SymInt, torch.SymFloat)):
        return {torch.SymBool: bool, torch.SymInt: int, torch.SymFloat: float}[type(value)]
    if isinstance(value, (tuple, list)):
        items = [result_spec(tracer, v, bases) for v in value]
        return items if isinstance(value, list) else tuple(items)
    if value is None or isinstance(value, (int, float, complex, str, torch.dtype, torch.device)):
        return value
    raise Unsupported(f"a result of type {type(value).__name__}")


def _storage_id(fake: torch.Tensor) -> int:
    return fake.untyped_storage()._cdata


def record_opaque(
    tracer: Tracer,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reason: str,
) -> Any:
    """Records `func(*args, **kwargs)` as an opaque symbol and returns its result as proxies.

    Raises:
        the error of eager PyTorch where the call is wrong; Unsupported where its results can't be
        described (sparse tensors, objects) or it can't be named.
    """
    name = torch_name(func)
    if name is None:
        raise Unsupported(f"{func!r} is not a torch function that a trace can name")
    with torch._C.DisableTorchFunction():
        return _record_opaque(tracer, name, func, args, kwargs, reason)


def call(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `func`: what a trace says for a Python callable that it does not look into."""
    return func(*args, **kwargs)


def record_call(
    tracer: Tracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Records a call of a Python callable as one opaque symbol, `fulmen.fallback.call`.

    Raises:
        as record_opaque.
    """
    if tracer.levels.active:
        raise Unsupported("torch.autograd.Function inside of a transform of torch.func")
    with torch._C.DisableTorchFunction():
        return _record_opaque(
            tracer, "fulmen.fallback.call", call, (func, *args), kwargs, "a Python callable"
        )


def _record_opaque(
    tracer: Tracer,
    name: str,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    reason: str,
) -> Any:
    state = modes.autocast_state()
    if state and func in _CAST_WHERE_FAKES_DO_NOT:
        raise Unsupported(f"{name} under torch.autocast")
    fake_args, fake_kwargs = pytree.tree_map(lambda v: _to_fake(tracer, v), (args, kwargs))
    leaves = [t for t in pytree.tree_leaves((fake_args, fake_kwargs)) if _is_fake(t)]
    versions = [t._version for t in leaves]
    layouts = [(t.shape, t.stride()) for t in leaves]
    out = _run_on_fakes(tracer, func, fake_args, fake_kwargs)
    if any((t.shape, t.stride()) != was for t, was in zip(leaves, layouts, strict=True)):
        tracer.fakes.forget()
        raise Unsupported(f"{name} changes the shape of a tensor that it writes")
    mutates = any(t._version != v for t, v in zip(leaves, versions, strict=True))
    proxies = _proxies_in(tracer, (args, kwargs))
    if not proxies and out is not None and not _is_computed(out):
        return out  # a device, a dtype, a flag: nothing that the program computes
    by_storage = {_storage_id(tracer.fakes.of(p)): p for p in reversed(proxies)}
    out_leaves, structure = pytree.tree_flatten(out)
    identities = {id(tracer.fakes.of(p)): p for p in proxies}
    spec = result_spec(tracer, out, by_storage)
    if state:
        cache = torch.is_autocast_cache_enabled()
        called, args = "fulmen.modes.call_with_autocast", (state, cache, name, *args)
    else:
        called = name
    recorded = tracer.recorder.record_opaque(called, args, kwargs, spec, mutates)
    result_leaves = pytree.tree_leaves(recorded)
    if len(result_leaves) == len(out_leaves):
        for i, (proxy, fake) in enumerate(zip(result_leaves, out_leaves, strict=True)):
            if id(fake) in identities:
                result_leaves[i] = identities[id(fake)]
            elif isinstance(proxy, _core.TensorProxy) and hasattr(fake, "fake_mode"):
                tracer.fakes.remember(proxy, fake)
        recorded = pytree.tree_unflatten(result_leaves, structure)
    tracer.fallbacks.setdefault(name, reason)
    return recorded


# Their kernels reach operations that autocast casts; the rules of fake tensors do not.
_CAST_WHERE_FAKES_DO_NOT = {torch.linalg.pinv}


def _is_computed(tree: Any) -> bool:
    kinds = (torch.Tensor, torch.SymBool, torch.SymInt, torch.SymFloat)
    return any(isinstance(leaf, kinds) for leaf in pytree.tree_leaves(tree))


def _is_fake(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _proxies_in(tracer: Tracer, tree: Any) -> list[Any]:
    found = []
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, _core.TensorProxy):
            found.append(leaf)
        elif isinstance(leaf, torch.Tensor):
            found.append(tracer.recorder.lift(leaf))
    return found


# What fake tensors raise for a function that reads values.
_VALUE_DEPENDENT = {
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "GuardOnDataDependentSymNode",
}


def is_not_of_eager(error: Exception) -> bool:
    """Whether fake tensors raised this where real ones would not."""
    kind = type(error).__name__
    return (
        kind in _VALUE_DEPENDENT
        or kind in ("UnsupportedFakeTensorException", "UnsupportedOperatorException")
        or isinstance(error, NotImplementedError)
        or "its data is not allocated yet" in str(error)
    )


def _run_on_fakes(
    tracer: Tracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    scalar = _SCALAR_RESULTS.get(func)
    if scalar is not None:
        return {bool: torch.SymBool, int: torch.SymInt}[scalar](None)
    state = torch.random.get_rng_state()
    cache = torch.is_autocast_cache_enabled()
    try:
        # The cache of autocast would keep fake tensors until the outermost region ends.
        torch.set_autocast_cache_enabled(False)
        with tracer.fakes.mode:
            out = func(*args, **kwargs)
        return fake_rules.corrected(tracer.fakes.mode, func, out, args)
    except Exception as e:
        kind = type(e).__name__
        if kind in _VALUE_DEPENDENT or "its data is not allocated yet" in str(e):
            rule = fake_rules.rule_for(func)
            if rule is not None:
                return rule(tracer.fakes.mode, *args, **kwargs)
            raise DataDependentError(
                f"{torch_name(func)}: its result depends on the values of a traced tensor",
                "data-dependent",
            ) from e
        if kind == "UnsupportedFakeTensorException" or isinstance(e, NotImplementedError):
            raise Unsupported(f"fake tensors do not support {torch_name(func)}: {e}") from e
        if kind == "UnsupportedOperatorException":
            raise Unsupported(f"no metadata for {e}") from e
        raise
    finally:
        torch.random.set_rng_state(state)
        torch.set_autocast_cache_enabled(cache)


__all__ = [
    "METADATA_FUNCTIONS",
    "FakeTensors",
    "UserRuntimeError",
    "call_on_metadata",
    "record_opaque",
    "torch_name",
]
