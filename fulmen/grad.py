"""Functions that return gradients: `fulmen.grad`, `value_and_grad`, `vjp` and `jvp`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._C import _functorch
from torch.utils import _pytree as pytree

from fulmen.errors import UserRuntimeError, UserValueError
from fulmen.jit import jit


def grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Makes the function that returns the gradient of `fn`, as `torch.func.grad`.

    `fn` is compiled. Gradients of gradients come from calling it on itself, `grad(grad(fn))`, or
    from arguments that require grad.

    Args:
        fn: returns a floating-point tensor of one element; with `has_aux` a tuple of that and
            anything else.
        argnums: which positional arguments to differentiate: nested lists, tuples and dicts of
            floating-point tensors.
        has_aux: return (gradient, the rest of the result).

    Returns:
        the gradient, with the structure of the argument; a tuple of these for a tuple of argnums.

    Raises:
        UserRuntimeError: `fn` returned no floating-point tensor of one element; an argument to
            differentiate holds a tensor of integers; `argnums` names none that the call has.
        UserValueError: an argument to differentiate holds no tensor.
    """
    compute = value_and_grad(fn, argnums, has_aux)

    @functools.wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, grads = compute(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """As `grad`, but the function returns (the result of `fn`, the gradient)."""
    compiled = jit(fn)
    indices = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(fn)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        if _is_transformed():
            grads, value = torch.func.grad_and_value(fn, argnums, has_aux)(*args, **kwargs)
            return value, grads
        nested = _requires_grad((args, kwargs))
        with torch.enable_grad():
            primals, leaves = _primals(args, indices)
            result = compiled(*primals, **kwargs)
            loss, aux = result if has_aux else (result, None)
            _check_loss(loss)
            flat = _gradients([loss], leaves, [None], nested)
        grads = _unflatten(flat, [primals[i] for i in indices])
        value = loss if nested else loss.detach()
        return (value, aux) if has_aux else value, grads[0] if isinstance(argnums, int) else grads

    return value_and_gradient


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """The result of `fn(*primals)`, and the function that maps its cotangents to those of the
    primals, as `torch.func.vjp`.

    Args:
        fn: is compiled; the program is kept for the functions that were used last.
        primals: nested lists, tuples and dicts of floating-point tensors.

    Returns:
        (result, vjp_fn): vjp_fn takes one argument with the structure of the result and returns a
        tuple with one entry for each primal.

    Raises:
        UserRuntimeError: a primal holds a tensor of integers; the cotangents have another
            structure than the result.
        UserValueError: a primal holds no tensor.
    """
    nested = _requires_grad(primals)
    with torch.enable_grad():
        inputs, leaves = _primals(primals, tuple(range(len(primals))))
        result = _kept(_program, fn)(*inputs)
    outputs, structure = pytree.tree_flatten(result)

    def pull_back(cotangents: Any) -> tuple[Any, ...]:
        seeds, given = pytree.tree_flatten(cotangents)
        if given != structure:
            raise UserRuntimeError(
                f"vjp(): got cotangents of structure {given}; expected that of the result, "
                f"{structure}",
                "vjp-structure",
            )
        grads = _gradients(outputs, leaves, seeds, nested or _requires_grad(seeds), keep=True)
        return tuple(_unflatten(grads, list(inputs)))

    detached = result if nested else pytree.tree_map(_detached, result)
    return detached, pull_back


def jvp(
    fn: Callable[..., Any],
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    strict: bool = False,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """The result of `fn(*primals)` and its derivative in the direction `tangents`, as
    `torch.func.jvp`.

    One program computes both, forward: the derivative of each operation is PyTorch's own, in
    operations of the program. What has none, as attention, is refused as PyTorch refuses it.

    Args:
        fn: is compiled; the program is kept for the functions that were used last.
        primals: nested lists, tuples and dicts of floating-point tensors.
        tangents: of the structure of the primals.
        strict: raise where a result does not depend on the primals, instead of zeros.
        has_aux: `fn` returns (what is differentiated, anything else).

    Returns:
        (result, derivative), and the rest of the result with `has_aux`.

    Raises:
        what `torch.func.jvp` raises.
    """
    if _is_transformed():
        return torch.func.jvp(fn, primals, tangents, strict=strict, has_aux=has_aux)
    return _kept(_forward_program, fn, strict, has_aux)(primals, tangents)


def _kept(make: Any, *args: Any) -> Any:
    """`make(*args)` from its cache, or made anew where an argument, a callable, has no hash."""
    try:
        return make(*args)
    except TypeError:
        return make.__wrapped__(*args)


@functools.lru_cache(maxsize=32)
def _program(fn: Callable[..., Any]) -> Callable[..., Any]:
    return jit(fn)


@functools.lru_cache(maxsize=32)
def _forward_program(fn: Callable[..., Any], strict: bool, has_aux: bool) -> Callable[..., Any]:
    def program(primals: Any, tangents: Any) -> Any:
        return torch.func.jvp(fn, primals, tangents, strict=strict, has_aux=has_aux)

    return jit(program)


def _is_transformed() -> bool:
    """Whether this is a part of a function that torch.func transforms."""
    return _functorch.maybe_current_level() is not None


def _requires_grad(tree: Any) -> bool:
    return torch.is_grad_enabled() and any(
        isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(tree)
    )


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value


def _primals(
    args: tuple[Any, ...], indices: tuple[int, ...]
) -> tuple[list[Any], list[torch.Tensor]]:
    """The arguments, those to differentiate as tensors of their own; and these tensors."""
    leaves: list[torch.Tensor] = []

    def own(leaf: Any) -> torch.Tensor:
        if not isinstance(leaf, torch.Tensor) or not (
            leaf.is_floating_point() or leaf.is_complex()
        ):
            is_tensor = isinstance(leaf, torch.Tensor)
            what = f"a tensor of {leaf.dtype}" if is_tensor else repr(leaf)
            RightError = UserRuntimeError if is_tensor else UserValueError
            raise RightError(
                f"grad(): got {what} to differentiate by; expected floating-point tensors. "
                "Name other arguments with argnums",
                "grad-argument",
            )
        # Of an argument with a history: a value with one, too.
        tensor = leaf.view_as(leaf) if leaf.requires_grad else leaf.detach().requires_grad_()
        leaves.append(tensor)
        return tensor

    primals = list(args)
    for i in indices:
        if not -len(args) <= i < len(args):
            raise UserRuntimeError(
                f"grad(): argnums names argument {i}; the call has {len(args)} positional ones",
                "grad-argnums",
            )
        primals[i] = pytree.tree_map(own, args[i])
    return primals, leaves


def _check_loss(loss: Any) -> None:
    if isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.is_floating_point():
        return
    what = (
        f"a tensor of {loss.dtype} and shape {tuple(loss.shape)}"
        if isinstance(loss, torch.Tensor)
        else repr(type(loss).__name__)
    )
    raise UserRuntimeError(
        f"grad(): the function returned {what}; expected a floating-point tensor of one element. "
        "Reduce the result (sum, mean), or use fulmen.vjp",
        "grad-result",
    )


def _gradients(
    outputs: list[Any],
    inputs: list[torch.Tensor],
    seeds: list[Any],
    nested: bool,
    keep: bool = False,
) -> list[torch.Tensor]:
    pairs = [
        (o, s)
        for o, s in zip(outputs, seeds, strict=True)
        if isinstance(o, torch.Tensor) and o.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(x) for x in inputs]
    grads = torch.autograd.grad(
        [o for o, _ in pairs],
        inputs,
        [s for _, s in pairs],
        create_graph=nested,
        retain_graph=keep or nested,
        allow_unused=True,
    )
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]


def _unflatten(flat: list[torch.Tensor], like: list[Any]) -> tuple[Any, ...]:
    values = iter(flat)
    return tuple(pytree.tree_map(lambda _: next(values), tree) for tree in like)
