"""FX graph → Trace: the walk over the nodes of a graph that Dynamo captured."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.utils.checkpoint

from fulmen import _core, fallback, modes
from fulmen.errors import DataDependentError, Unsupported
from fulmen.tracer import TraceMode, Tracer, call_traced


@dataclasses.dataclass
class FxTrace:
    """What became of an FX graph.

    Attributes:
        trace: the recorded program; meaningless when `unsupported` is not empty.
        number_values: for each input of the trace its constant value if it is a number, else None.
        captured: tensors that the graph holds as attributes: inputs after the arguments.
        unsupported: node → reason, for every node that PyTorch must run.
    """

    trace: _core.Trace | None
    number_values: tuple[Any, ...]
    captured: tuple[torch.Tensor, ...]
    tracer: Tracer
    unsupported: dict[torch.fx.Node, str]


# Nodes that change PyTorch's state for the nodes after them.
_STATE_FUNCTIONS = {
    torch._C._set_grad_enabled,
}
_AUTOCAST_ENTER = torch.amp.autocast_mode._enter_autocast
_AUTOCAST_EXIT = torch.amp.autocast_mode._exit_autocast


class _Missing:
    """Stands for the value of a node that PyTorch runs, where its metadata are unknown."""


_MISSING = _Missing()


def is_state_node(node: torch.fx.Node) -> bool:
    """Whether the node changes state (grad mode, autocast) rather than computing a value."""
    return node.op == "call_function" and (
        node.target in _STATE_FUNCTIONS or node.target in (_AUTOCAST_ENTER, _AUTOCAST_EXIT)
    )


# Modules whose functions change what the operations after them mean: levels of torch.func, hooks on
# saved tensors.
_MODE_MODULES = ("torch._functorch", "torch._C._functorch", "torch._C._autograd")
_INFERENCE_MODE = (
    torch.autograd.grad_mode._enter_inference_mode,
    torch.autograd.grad_mode._exit_inference_mode,
)


def regions_of_pytorch(graph: torch.fx.Graph) -> dict[torch.fx.Node, str]:
    """The nodes in inference mode and torch.func, and what enters or leaves them."""
    inside: dict[torch.fx.Node, str] = {}
    changes: list[int] = []
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output")]
    for i, node in enumerate(nodes):
        is_call = node.op == "call_function"
        module = getattr(node.target, "__module__", None) or ""
        if is_call and (module.startswith(_MODE_MODULES) or node.target in _INFERENCE_MODE):
            changes.append(i)
    if changes:
        for node in nodes[changes[0] : changes[-1] + 1]:
            inside[node] = "inside torch.func or inference mode, which PyTorch runs"
    return inside


def restore_checkpoints(gm: torch.fx.GraphModule) -> None:
    """Makes Dynamo's activation checkpoints run in eager as the user wrote them.

    The operator that stands for them leaves the random state to a compiler: in eager, its backward
    would recompute dropout with other random numbers.
    """
    for node in gm.graph.nodes:
        if not isinstance(node.target, torch._ops.HigherOrderOperator):
            continue
        if node.target.name() != "tag_activation_checkpoint":
            continue
        region = operator.attrgetter(str(node.args[0].target))(gm)
        kwargs = {**node.kwargs, "use_reentrant": False}
        if "_checkpoint_context_fn" in region.meta:
            kwargs["context_fn"] = region.meta["_checkpoint_context_fn"]
        node.target, node.kwargs = torch.utils.checkpoint.checkpoint, kwargs


def trace_fx(gm: torch.fx.GraphModule, args: tuple[Any, ...]) -> FxTrace:
    """Records the graph on inputs with the metadata of `args`; integers are specialized.

    Raises:
        UserError: a call that eager PyTorch refuses.
        Unsupported: an argument that a trace can't describe.
    """
    return _Walk(gm, args).run()


class _Walk:
    def __init__(self, gm: torch.fx.GraphModule, args: tuple[Any, ...]) -> None:
        self.gm = gm
        self.args = args
        self.tracer = Tracer()
        self.env: dict[torch.fx.Node, Any] = {}
        self.number_values: list[Any] = []
        self.unsupported = regions_of_pytorch(gm.graph)
        self.last_stack: str | None = None

    def run(self) -> FxTrace:
        trace = None
        remaining = iter(self.args)
        with modes.autocast_restored(), self.tracer as tracer:
            for node in self.gm.graph.nodes:
                if node.op == "placeholder":
                    self.env[node] = self._input(node, next(remaining))
                elif node.op == "output":
                    if not self.unsupported:
                        output = torch.fx.node.map_arg(node.args[0], self.env.__getitem__)
                        trace = tracer.recorder.finish(_plain(output), "computation")
                else:
                    self._node(node)
            captured = tuple(tracer.recorder.lifted)
        values = tuple(self.number_values) + (None,) * len(captured)
        return FxTrace(trace, values, captured, self.tracer, self.unsupported)

    def _input(self, node: torch.fx.Node, value: Any) -> Any:
        name = _input_name(node)
        if isinstance(value, torch.Tensor):
            self.number_values.append(None)
            return self.tracer.recorder.add_tensor_input(value, name)
        if isinstance(value, (bool, int, float)):
            self.number_values.append(value)
            self.tracer.recorder.add_number_input(value, name)
            return value
        raise Unsupported(f"an input of type {type(value).__name__}")

    def _node(self, node: torch.fx.Node) -> None:
        self._set_source(node)
        if node in self.unsupported:
            self.env[node] = self._stand_in(node)
            return
        if any(self.env[n] is _MISSING for n in node.all_input_nodes):
            # Nothing is known of its arguments before the run: it compiles then, as another part.
            self.env[node] = self._stand_in(node)
            return
        try:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), self.env.__getitem__)
            self.env[node] = self._run(node, args, kwargs)
        except (Unsupported, DataDependentError, NotImplementedError) as e:
            self.unsupported[node] = str(e)
            self.env[node] = self._stand_in(node)

    def _run(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tracer = self.tracer
        if node.op == "call_function":
            return _call_function(tracer, node.target, args, kwargs)
        if node.op == "call_method":
            if isinstance(args[0], _core.TensorProxy):
                func = getattr(torch.Tensor, str(node.target))
                return call_traced(tracer, func, args, kwargs)
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self.gm)
            return tracer.recorder.lift(value) if isinstance(value, torch.Tensor) else value
        module = self.gm.get_submodule(str(node.target))
        with TraceMode(tracer):
            return module(*args, **kwargs)

    def _stand_in(self, node: torch.fx.Node) -> Any:
        """Proxies with the metadata that Dynamo noted, so that the walk can go on."""
        example = node.meta.get("example_value")
        if example is None:
            return _MISSING
        try:
            spec = fallback.result_spec(self.tracer, example, {})
            return self.tracer.recorder.record_opaque("torch.empty", (), {}, spec, False)
        except Exception:
            return _MISSING

    def _set_source(self, node: torch.fx.Node) -> None:
        stack = node.meta.get("stack_trace")
        if stack is None or stack == self.last_stack:
            return
        self.last_stack = stack
        # `  File "model.py", line 41, in forward`, the innermost last.
        at = stack.rfind('File "')
        file, _, rest = stack[at + 6 :].partition('", line ')
        line, _, rest = rest.partition(", in ")
        function = rest.partition("\n")[0]
        if at >= 0 and line.isdigit():
            self.tracer.recorder.set_source(file, int(line), function)


def _call_function(
    tracer: Tracer, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if _core.has_row(target) and (
        _has_proxy(args, kwargs) or not getattr(target, "__module__", "").startswith("_operator")
    ):
        return tracer.call(target, args, kwargs)
    if target in (operator.getitem, operator.setitem):
        return tracer.call(target, args, kwargs)
    if target in (_AUTOCAST_ENTER, _AUTOCAST_EXIT):
        region = target(*args, **kwargs)  # see Note [Modes]
        if not modes.in_autocast_region():
            tracer.recorder.clear_cast_cache()
        return region
    if target is getattr:
        return getattr(*args)
    if target in fallback.METADATA_FUNCTIONS:
        return fallback.call_on_metadata(tracer, target, args, kwargs)
    if target is torch.utils.checkpoint.checkpoint:
        raise Unsupported("an activation checkpoint")
    if isinstance(target, torch._ops.HigherOrderOperator):
        raise Unsupported(f"the higher-order operator {target}")
    if isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return tracer.call(target, args, kwargs)
    if (getattr(target, "__module__", None) or "torch").startswith("torch"):
        return tracer.call(target, args, kwargs)
    return target(*args, **kwargs)


def _has_proxy(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(isinstance(a, _core.TensorProxy) for a in args) or any(
        isinstance(a, _core.TensorProxy) for a in kwargs.values()
    )


def _plain(value: Any) -> Any:
    """FX's immutable collections as plain ones."""
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _input_name(node: torch.fx.Node) -> str:
    """`L_self_modules_layers_modules_0_parameters_weight_` → `layers_0_weight`."""
    name = str(node.target)
    for old, new in (
        ("L_self_", ""),
        ("L_", ""),
        ("modules_", ""),
        ("parameters_", ""),
        ("buffers_", ""),
    ):
        name = name.replace(old, new)
    return name.strip("_") or "arg"
