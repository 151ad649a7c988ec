"""Python for what PyTorch does in ways that can't be followed. The interpreter follows these."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.checkpoint
from torch.utils import _pytree as pytree

from fulmen import tracer
from fulmen.inlining import copy_of

# They differentiate what they call with PyTorch's autograd.
DIFFERENTIATING: tuple[types.FunctionType, ...] = tuple(
    getattr(torch.autograd.functional, name)
    for name in ("vjp", "jvp", "jacobian", "hessian", "hvp", "vhp")
)


def on_tape(function: types.FunctionType) -> Callable[..., Any]:
    """A function of DIFFERENTIATING, in a program that is traced: see Note [Levels]."""
    # Another object than `function`, for which this is called.
    body = copy_of(function)

    def followed(*args: Any, **kwargs: Any) -> Any:
        tracer.enter_tape()
        result: Any = None
        try:
            result = body(*args, **kwargs)
        finally:
            result = tracer.leave_tape(result)
        return result

    return followed


def associative_scan(
    combine_fn: Callable[[Any, Any], Any],
    xs: Any,
    dim: int,
    reverse: bool = False,
    combine_mode: str = "pointwise",
) -> Any:
    """torch._higher_order_ops.associative_scan, one step after the other.

    Args:
        combine_fn: (a, b) → the structure of both; elementwise, as "pointwise" demands.
        xs: tensors, in any structure, of one size along `dim`.
        dim: what is scanned over.
        reverse: from the last to the first.
        combine_mode: "pointwise" or "generic"; both are the same here.
    """
    del combine_mode
    leaves, structure = pytree.tree_flatten(xs)
    size = leaves[0].shape[dim]
    steps = list(range(size))[:: -1 if reverse else 1]
    carry: Any = None
    results: list[list[Any]] = []
    for step in steps:
        current = [leaf.select(dim, step) for leaf in leaves]
        if carry is not None:
            combined = combine_fn(
                pytree.tree_unflatten(carry, structure), pytree.tree_unflatten(current, structure)
            )
            current = pytree.tree_flatten(combined)[0]
        carry = current
        results.append(current)
    if reverse:
        results = results[::-1]
    stacked = [torch.stack([r[i] for r in results], dim) for i in range(len(leaves))]
    return pytree.tree_unflatten(stacked, structure)


def get_value(x: Any) -> Any:
    """torch.optim.optimizer._get_value as eager PyTorch has it."""
    return x.item() if isinstance(x, torch.Tensor) else x


def group_by_device_and_dtype(
    tensor_lists: list[list[torch.Tensor]], with_indices: bool = False
) -> dict[tuple[torch.device, torch.dtype], tuple[list[list[torch.Tensor]], list[int]]]:
    """torch._C._group_tensors_by_device_and_dtype: the lists, split by what the first one holds."""
    groups: dict[Any, Any] = {}
    for i in range(len(tensor_lists[0])):
        key = (tensor_lists[0][i].device, tensor_lists[0][i].dtype)
        if key not in groups:
            groups[key] = ([[] for _ in tensor_lists], [])
        lists, indices = groups[key]
        for part, tensors in zip(lists, tensor_lists, strict=True):
            if tensors:
                part.append(tensors[i])
        if with_indices:
            indices.append(i)
    return groups


def foreach(name: str) -> Callable[..., Any]:
    """torch._foreach_<name> as a loop; on CPUs that is what eager PyTorch does.

    Args:
        name: of the function, without its prefix; with an underscore at the end it writes.
    """
    writes = name.endswith("_")
    base = name.removesuffix("_")
    function: Any = torch.linalg.vector_norm if base == "norm" else getattr(torch, base, None)
    function = function or getattr(torch.Tensor, base, None)
    in_place = getattr(torch.Tensor, name, None) if writes else None
    # addcmul(self, a, b, value): the number is a keyword of the single function.
    with_value = base in ("addcdiv", "addcmul")

    def loop(first: Any, *args: Any, **kwargs: Any) -> Any:
        count = len(first if isinstance(first, (list, tuple)) else args[0])
        results = []
        for i in range(count):
            own = [a[i] if isinstance(a, (list, tuple)) else a for a in (first, *args)]
            named = {k: v[i] if isinstance(v, (list, tuple)) else v for k, v in kwargs.items()}
            if with_value and len(own) > 3:
                named["value"] = own.pop()
            if in_place is not None:
                in_place(*own, **named)
            elif writes:
                own[0].copy_(function(*own, **named))
            else:
                results.append(function(*own, **named))
        return None if writes else results

    return loop


FOREACH = tuple(
    name
    for name in (n.removeprefix("_foreach_") for n in dir(torch) if n.startswith("_foreach_"))
    if hasattr(torch.Tensor, name) or hasattr(torch.Tensor, name.removesuffix("_"))
)
"""The functions over lists of tensors that this PyTorch has."""


def fused(name: str) -> Callable[..., None]:
    """torch.<name>, which writes to lists of tensors, as the operation that returns new values.

    Args:
        name: of the function, with the underscore at its end.
    """
    new_values: Any = getattr(torch.ops.aten, name.removesuffix("_"))
    scales = name == "_amp_foreach_non_finite_check_and_unscale_"

    def update(params: Any, grads: Any, *states: Any, **kwargs: Any) -> None:
        results = new_values(params, grads, *states, **kwargs)
        # The last lists may be of steps, which the caller counts.
        for tensors, values in zip((params, grads, *states), results, strict=False):
            if isinstance(tensors, torch.Tensor):
                tensors.copy_(values)
                continue
            if tensors is grads and not scales and kwargs.get("grad_scale") is None:
                continue  # read, and written only where they are scaled
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)

    return update


FUSED = (
    "_fused_adam_",
    "_fused_adamw_",
    "_fused_sgd_",
    "_fused_adagrad_",
    "_amp_foreach_non_finite_check_and_unscale_",
)
"""The functions that update lists of tensors with one kernel."""


def amp_update_scale(
    scale: torch.Tensor, growth_tracker: torch.Tensor, found_inf: torch.Tensor, *numbers: Any
) -> torch.Tensor:
    """torch._amp_update_scale_."""
    values = torch.ops.aten._amp_update_scale(scale, growth_tracker, found_inf, *numbers)
    growth_tracker.copy_(values[1])
    return scale.copy_(values[0])


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], Any] = torch.utils.checkpoint.noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """torch.utils.checkpoint.checkpoint: the call itself, marked as what a backward computes again.

    Where eager does more than to compute the function twice, the call is left to it.
    """
    del early_stop
    if use_reentrant is None:
        warnings.warn(_NOT_PASSED, stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if context_fn is not torch.utils.checkpoint.noop_context_fn:
        tracer.refuse("an activation checkpoint with a context_fn")
    if debug or torch.utils.checkpoint._checkpoint_debug_enabled:
        tracer.refuse("an activation checkpoint that is debugged")
    if use_reentrant:
        return _reentrant_checkpoint(function, args, kwargs, preserve)
    if determinism_check not in ("default", "none"):
        tracer.refuse(f"determinism_check={determinism_check!r}")
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    return _marked(function, args, kwargs, preserve)


_NOT_PASSED = (
    "torch.utils.checkpoint: the use_reentrant parameter should be "
    "passed explicitly. Starting in PyTorch 2.9, calling checkpoint "
    "without use_reentrant will raise an exception. use_reentrant=False is "
    "recommended, but if you need to preserve the current default "
    "behavior, you can pass use_reentrant=True. Refer to docs for more "
    "details on the differences between the two variants."
)


def _marked(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], preserve: bool
) -> Any:
    tracer.enter_checkpoint()
    try:
        return function(*args, **kwargs)
    finally:
        tracer.leave_checkpoint(preserve)


def _reentrant_checkpoint(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], preserve: bool
) -> Any:
    """use_reentrant=True: one node of autograd, whose inputs are the tensors among `args`."""
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(arg for arg in kwargs))
    torch.utils.checkpoint.check_backward_validity(args)
    inputs = [a for a in args if isinstance(a, torch.Tensor)]
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in inputs):
        with torch.no_grad():
            return function(*args)
    result = _marked(function, args, {}, preserve)
    results = result if isinstance(result, tuple) else (result,)
    for r in results:
        if isinstance(r, torch.Tensor):
            if any(r is t for t in inputs):
                tracer.refuse("a reentrant activation checkpoint that returns its input")
            if r.is_floating_point() and not r.requires_grad:
                tracer.refuse("a reentrant activation checkpoint with a result without gradient")
        elif r is not None and not isinstance(r, (bool, int, float, str)):
            tracer.refuse(f"a reentrant activation checkpoint that returns a {type(r).__name__}")
    return result
