"""Tracing by calling: `fulmen.trace(fn)(*args)` runs fn on proxies and returns its Trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import _core
from fulmen.tracer import TraceMode, Tracer


def trace(fn: Callable[..., Any]) -> Callable[..., _core.Trace]:
    """Makes a function that traces `fn` on the arguments it is called with.

    Every tensor among the arguments (in nested lists, tuples, dicts and registered dataclasses)
    becomes an input of the trace; other arguments are constants. Parameters, buffers and other
    tensors that `fn` reaches become further inputs, in the order of their first use.

    Returns:
        a callable with fn's signature that returns the `Trace`.

    Raises:
        DataDependentError: the program needs the value of a tensor.
        UserError: a call that eager PyTorch refuses.
    """

    def traced(*args: Any, **kwargs: Any) -> _core.Trace:
        return trace_call(fn, args, kwargs)[0]

    return traced


def trace_call(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[_core.Trace, Tracer, list[torch.Tensor]]:
    """As `trace`, with the tracer, and the tensors that are the inputs of the trace, in order."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    tracer = Tracer()
    inputs: list[torch.Tensor] = []
    with tracer:
        if isinstance(fn, torch.nn.Module):
            _name_module_tensors(tracer, fn)
        names = _leaf_names(fn, args, kwargs)
        proxies = []
        seen: dict[int, Any] = {}
        for leaf, name in zip(leaves, names, strict=True):
            if isinstance(leaf, torch.Tensor):
                if id(leaf) not in seen:
                    seen[id(leaf)] = tracer.recorder.add_tensor_input(leaf, name)
                    inputs.append(leaf)
                proxies.append(seen[id(leaf)])
            else:
                proxies.append(leaf)
        proxy_args, proxy_kwargs = pytree.tree_unflatten(proxies, structure)
        with TraceMode(tracer):
            result = fn(*proxy_args, **proxy_kwargs)
        result_leaves, result_structure = pytree.tree_flatten(result)
        output = pytree.tree_unflatten(
            [
                tracer.recorder.lift(v)
                if isinstance(v, torch.Tensor) and not isinstance(v, _core.TensorProxy)
                else v
                for v in result_leaves
            ],
            result_structure,
        )
        recorded = tracer.recorder.finish(output, "computation")
    return recorded, tracer, inputs + list(tracer.recorder.lifted)


def _name_module_tensors(tracer: Tracer, module: torch.nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tracer.recorder.name_tensor(tensor, name.replace(".", "_"))


def _leaf_names(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A name for each leaf of (args, kwargs): the parameter's, with a path for nested ones."""
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "forward", None), "__code__", None)
    params = list(code.co_varnames[: code.co_argcount]) if code else []
    if params and params[0] == "self":
        params = params[1:]
    names = []
    for path, _ in pytree.tree_flatten_with_path((args, kwargs))[0]:
        keys = [_key_text(k) for k in path[1:]]
        if _key_text(path[0]) == "0" and keys:
            position = int(keys[0])
            keys[0] = params[position] if position < len(params) else f"arg{position}"
        names.append("_".join(keys) or "arg")
    return names


def _key_text(key: Any) -> str:
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
