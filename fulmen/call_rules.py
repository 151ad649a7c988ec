"""What the interpreter does with calls that it must not follow as they stand.

Everything without a rule is followed (Python functions) or recorded (operations of PyTorch). See
`CallRule` in cpp/jit/call_rules.h for what a rule means.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import random
import sys
import threading
import warnings
from typing import Any

import torch

from fulmen import _core, backward, fallback, levels, messages, polyfills, proxy, tracer

# Loading them costs more than a program that does not use them should pay.
_NOT_LOADED_FOR_RULES = ("torch._dynamo", "torch._higher_order_ops", "torch._functorch", "numpy")


def _package(name: str) -> str:
    return next(p for p in _NOT_LOADED_FOR_RULES if name.startswith(p))


def _find(name: str) -> Any:
    """The callable behind a dotted name; None if this PyTorch has none, or it is not loaded yet."""
    module, _, attribute = name.rpartition(".")
    if name.startswith(_NOT_LOADED_FOR_RULES) and _package(name) not in sys.modules:
        return None
    for candidate, path in ((module, ()), (module.rpartition(".")[0], module.rpartition(".")[2:])):
        target: Any = sys.modules.get(candidate)
        if target is None and candidate and not candidate.startswith(_NOT_LOADED_FOR_RULES):
            try:
                target = importlib.import_module(candidate)
            except ImportError:
                continue
        for part in path:
            target = getattr(target, part, None)
        found = getattr(target, attribute, None)
        if found is not None:
            return getattr(found, "__func__", found)
    return None


# The program is being compiled: libraries leave out checks that look at values.
_TRUE = (
    "torch.compiler.is_compiling",
    "torch.compiler.is_dynamo_compiling",
    "torch._dynamo.is_compiling",
    "torch._dynamo.external_utils.is_compiling",
)
# Functions of torch.nn.functional are followed, not sent to __torch_function__ of a proxy.
_FALSE = (
    "torch.overrides.has_torch_function",
    "torch.overrides.has_torch_function_unary",
    "torch.overrides.has_torch_function_variadic",
    "torch._C._has_torch_function",
    "torch._C._has_torch_function_unary",
    "torch._C._has_torch_function_variadic",
    "torch._C._are_functorch_transforms_active",
    "torch.jit.is_tracing",
    "torch._C._get_tracing_state",
    "torch._C._is_tracing",
)
# They change the process while the program is only followed.
_REFUSED = (
    "torch.manual_seed",
    "torch.seed",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "torch.device.__enter__",
    "torch.utils._device.DeviceContext.__enter__",
    "torch.set_num_threads",
    "torch.set_rng_state",
    "torch.use_deterministic_algorithms",
    "torch.set_float32_matmul_precision",
    "torch.set_flush_denormal",
    "torch._C._set_default_dtype",
    "torch.random.set_rng_state",
    "torch.random.get_rng_state",
    "torch.random.initial_seed",
    "torch.get_rng_state",
    "torch.initial_seed",
    "torch.get_num_threads",
    "torch.get_num_interop_threads",
    *(f"torch.Generator.{name}" for name in (
        "clone_state", "get_state", "graphsafe_get_state", "graphsafe_set_state", "initial_seed",
        "manual_seed", "seed", "set_state",
    )),
)  # fmt: skip
# What they do or give is another thing at each call, and no guard sees it.
_EVERY_CALL = (
    "builtins.print",
    "builtins.input",
    "builtins.open",
    "warnings.warn_explicit",
    "secrets.token_bytes",
    "uuid.uuid1",
    "uuid.uuid4",
    "torch.save",
    "torch.load",
    *(f"contextvars.ContextVar.{name}" for name in ("get", "reset", "set")),
    *(f"random.{name}" for name in random.__all__ if not name[0].isupper()),
    *(f"random.Random.{name}" for name in random.__all__ if not name[0].isupper()),
    *(f"io.{file}.{name}"
      for file in ("StringIO", "BytesIO", "TextIOWrapper", "BufferedWriter", "FileIO")
      for name in ("flush", "read", "readline", "seek", "write", "writelines")),
    *(f"collections.deque.{name}" for name in (
        "append", "appendleft", "clear", "extend", "extendleft", "insert", "pop", "popleft",
        "remove", "reverse", "rotate",
    )),
)  # fmt: skip
# They look for wrappers of torch.func, which a proxy is not.
_UNCHANGED = ("torch._functorch.utils.unwrap_dead_wrappers",)
# They read the process, not the program.
_NATIVE = (
    "inspect.signature",
    "inspect.getfullargspec",
    "inspect.unwrap",
    "importlib.import_module",
    "importlib.util.find_spec",
    "torch._dynamo.mark_static_address",
    "torch._dynamo.maybe_mark_dynamic",
    "torch._dynamo.mark_dynamic",
    "torch._logging.warning_once",
    "torch.autograd.forward_ad._maybe_load_decompositions",
    "torch._functorch.predispatch.lazy_load_decompositions",
    "typing.get_type_hints",
)


def _unchanged(value: Any) -> Any:
    return value


_named_rules: list[tuple[str, str, Any]] = [
    *((name, "constant", True) for name in _TRUE),
    *((name, "constant", False) for name in _FALSE),
    *((name, "native", None) for name in _NATIVE),
    *((name, "refuse", None) for name in (*_REFUSED, *_EVERY_CALL)),
    *((name, "same", _unchanged) for name in _UNCHANGED),
    (
        "torch._higher_order_ops.associative_scan.associative_scan",
        "same",
        polyfills.associative_scan,
    ),
    # Optimizers and what goes with them, as they run in eager PyTorch.
    ("torch.optim.optimizer._get_value", "same", polyfills.get_value),
    ("torch.optim.optimizer._stack_if_compiling", "same", _unchanged),
    ("torch._C._group_tensors_by_device_and_dtype", "same", polyfills.group_by_device_and_dtype),
    (
        "torch.utils._foreach_utils._group_tensors_by_device_and_dtype",
        "same",
        polyfills.group_by_device_and_dtype,
    ),
    *((f"torch._foreach_{name}", "same", polyfills.foreach(name)) for name in polyfills.FOREACH),
    *((f"torch.{name}", "same", polyfills.fused(name)) for name in polyfills.FUSED),
    ("torch._amp_update_scale_", "same", polyfills.amp_update_scale),
    # What it tells the profiler has no place in a program.
    ("torch.autograd.profiler.record_function", "same", contextlib.nullcontext),
    # Gradients inside of a program.
    ("torch.Tensor.backward", "same", backward.tensor_backward),
    ("torch.autograd.backward", "same", backward.backward),
    ("torch.autograd.grad", "same", backward.grad),
    ("fulmen.jvp", "same", torch.func.jvp),
    ("fulmen.backward.plan", "native", None),
    ("fulmen.backward.belongs_to_levels", "native", None),
    ("torch.utils.checkpoint.checkpoint", "same", polyfills.checkpoint),
    *(
        (f"fulmen.tracer.{name}", "native", None)
        for name in ("enter_checkpoint", "leave_checkpoint", "refuse")
    ),
    # What they set is set while the program is followed, and put back at its end.
    ("torch._C._set_grad_enabled", "same", tracer.set_grad_enabled),
    ("torch.clear_autocast_cache", "same", tracer.clear_autocast_cache),
    ("fulmen.tracer.set_grad_enabled", "native", None),
    ("fulmen.tracer.clear_autocast_cache", "native", None),
    ("fulmen.tracer.enter_tape", "native", None),
    ("fulmen.tracer.leave_tape", "native", None),
    # Dynamo counts the modules that are made once it is loaded.
    ("torch._dynamo.mutation_guard.GenerationTracker.tag", "constant", None),
]


def install() -> None:
    """Registers the rules, those of modules that are loaded later when it is called again."""
    with _installing:
        _install_own()
        if "numpy.random" in sys.modules:
            _install_numpy()
        for rule in list(_named_rules):
            callable_ = _find(rule[0])
            if callable_ is not None:
                _core.add_call_rule(callable_, rule[1], rule[2])
                _named_rules.remove(rule)


# Functions may be compiled by several threads at once.
_installing = threading.Lock()


@functools.cache
def _install_own() -> None:
    for callable_ in _logging_functions():
        _core.add_call_rule(callable_, "effect", messages.plan_log)
    _core.add_call_rule(warnings.warn, "effect", messages.plan_warning)
    _core.add_call_rule(torch.nn.Module.__getattr__, "module")
    for wrapper, method in proxy.METHODS.items():
        _core.add_call_rule(wrapper, "same", method)
    for getter in proxy.getters():
        _core.add_call_rule(getter, "native")
    for special in tracer._SPECIAL:
        if not _core.has_row(special):
            _core.add_call_rule(special, "torch")
    for metadata in fallback.METADATA_FUNCTIONS:
        if not _core.has_row(metadata):
            _core.add_call_rule(metadata, "torch")
    for function in levels.FUNCTIONS:
        _core.add_call_rule(function, "create")
    for function in polyfills.DIFFERENTIATING:
        _core.add_call_rule(function, "same", polyfills.on_tape(function))
    _core.add_call_rule(torch.tensor, "create")
    _core.add_call_rule(torch.as_tensor, "create")


@functools.cache
def _install_numpy() -> None:
    """Everything in numpy.random draws numbers, or has to do with how they are drawn."""
    module = sys.modules["numpy.random"]
    classes = [c for c in vars(module).values() if isinstance(c, type)]
    for owner in (module, *classes):
        for name, function in list(vars(owner).items()):
            if not name.startswith("_") and callable(function) and not isinstance(function, type):
                _core.add_call_rule(function, "refuse")


def _logging_functions() -> list[Any]:
    names = ("debug", "info", "warning", "error", "critical", "log")
    return [getattr(logging.Logger, n) for n in names] + [getattr(logging, n) for n in names]


__all__ = ["install"]
