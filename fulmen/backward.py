"""`loss.backward()` and `torch.autograd.grad` inside programs that fulmen.jit follows.

The pass `gradients` writes the backward into the trace, where the program asks for gradients; see
docs/autodiff.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fulmen import _core, levels
from fulmen.errors import Unsupported
from fulmen.inlining import copy_of
from fulmen.source import source_suffix
from fulmen.tracer import current_tracer

# Under no rule: they are followed as they stand.
_backward = copy_of(torch.autograd.backward)
_grad = copy_of(torch.autograd.grad)


def belongs_to_levels(*values: Any) -> bool:
    """Whether the gradients are those of a transform of torch.func: see fulmen.levels."""
    return current_tracer().levels.active or any(
        isinstance(leaf, _core.TensorProxy) and levels.is_wrapped(leaf)
        for leaf in pytree.tree_leaves(values)
    )


def _sequence(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _seeds(outputs: list[Any], given: Any) -> list[Any]:
    tracer = current_tracer()
    seeds = [None] * len(outputs) if given is None else _sequence(given)
    if len(seeds) != len(outputs):
        raise Unsupported("as many gradients as outputs are needed")
    found = []
    for output, seed in zip(outputs, seeds, strict=True):
        if not isinstance(output, _core.TensorProxy) or not output.requires_grad:
            raise Unsupported(f"backward() of what requires no grad{source_suffix()}")
        if seed is None:
            if output.numel() != 1:
                raise Unsupported("grad can be implicitly created only for scalar outputs")
            seed = tracer.call(torch.ones_like, (output,), {"memory_format": torch.preserve_format})
        elif tuple(seed.shape) != tuple(output.shape) or seed.requires_grad:
            raise Unsupported("a gradient of another shape, or with a history")
        found.append(seed)
    return found


def plan(
    tensors: Any,
    grad_tensors: Any,
    retain_graph: bool | None,
    create_graph: bool,
    inputs: Any,
    allow_unused: bool = True,
    as_computed: bool = False,
) -> tuple[list[Any], list[Any]]:
    """Records the gradients of `tensors`.

    Args:
        tensors: one tensor or several, as the arguments that follow.
        grad_tensors: their gradients; None for scalars.
        inputs: what to differentiate by; None: the leaves that lead to `tensors`.
        allow_unused: whether one of `inputs` may lead to none of them.
        as_computed: whether gradients keep the strides with which they are computed, instead of
            those that they have in `.grad`.

    Returns:
        (the tensors, the gradients); None for the gradient of one that leads to nothing.

    Raises:
        Unsupported: PyTorch must run the call.
    """
    if create_graph:
        raise Unsupported(f"create_graph=True{source_suffix()}")
    recorder = current_tracer().recorder
    outputs = _sequence(tensors)
    seeds = _seeds(outputs, grad_tensors)
    if inputs is None:
        leaves = recorder.leading_to(outputs)
        used = leaves
    else:
        leaves = [
            recorder.lift(x)  # nobody has used it so far
            if isinstance(x, torch.Tensor) and not isinstance(x, _core.TensorProxy)
            else x
            for x in _sequence(inputs)
        ]
        if any(not isinstance(x, _core.TensorProxy) or not x.requires_grad for x in leaves):
            raise Unsupported(f"an input of the gradients that requires no grad{source_suffix()}")
        used = recorder.leading_to(outputs, leaves)
        if len(used) < len(leaves) and not allow_unused:
            raise Unsupported("one of the inputs is not used in the graph")
    if not used:
        return leaves, [None] * len(leaves)
    symbol = _core.find_symbol("gradients")
    assert symbol is not None
    strides = recorder.gradient_strides(outputs, seeds, used) if as_computed else None
    gradients = recorder.record_symbol(
        symbol, (outputs, seeds, used, bool(retain_graph)), {"strides": strides}
    )
    of = {id(x): g for x, g in zip(used, gradients, strict=True)}
    return leaves, [of.get(id(x)) for x in leaves]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Sequence[torch.Tensor] | torch.Tensor | None = None,
) -> None:
    """torch.autograd.backward, as the interpreter follows it."""
    if belongs_to_levels(tensors, grad_tensors, inputs):
        return _backward(tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs)
    if grad_variables is not None:
        raise Unsupported("grad_variables, which is deprecated")
    leaves, gradients = plan(tensors, grad_tensors, retain_graph, create_graph, inputs)
    with torch.no_grad():
        for leaf, gradient in zip(leaves, gradients, strict=True):
            if gradient is None:
                continue
            if leaf.grad is None:
                leaf.grad = gradient
            else:
                leaf.grad.add_(gradient)


def tensor_backward(
    self: torch.Tensor,
    gradient: torch.Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[torch.Tensor] | torch.Tensor | None = None,
) -> None:
    """torch.Tensor.backward, as the interpreter follows it."""
    backward(self, gradient, retain_graph, create_graph, None, inputs)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[torch.Tensor | None, ...]:
    """torch.autograd.grad, as the interpreter follows it."""
    if belongs_to_levels(outputs, inputs, grad_outputs):
        return _grad(
            outputs,
            inputs,
            grad_outputs,
            retain_graph,
            create_graph,
            only_inputs,
            allow_unused,
            is_grads_batched,
            materialize_grads,
        )
    if is_grads_batched or not only_inputs:
        raise Unsupported("torch.autograd.grad with is_grads_batched")
    unused = allow_unused or materialize_grads
    leaves, gradients = plan(
        outputs, grad_outputs, retain_graph, create_graph, inputs, bool(unused), as_computed=True
    )
    if materialize_grads:
        return tuple(
            torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)
        )
    return tuple(gradients)
