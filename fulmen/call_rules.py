"""What the interpreter does with calls that it must not follow as they stand.

Everything without a rule is followed (Python functions) or recorded (operations of PyTorch). See
`CallRule` in cpp/jit/call_rules.h for what a rule means.
"""

from __future__ import annotations

import functools
import importlib
import logging
import random
import sys
from typing import Any

import torch

from fulmen import _core, fallback, polyfills, proxy, tracer

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
    "torch.set_num_threads",
    "torch.set_rng_state",
    "torch.use_deterministic_algorithms",
    "torch.set_float32_matmul_precision",
    "torch.set_flush_denormal",
    "torch._C._set_default_dtype",
    "torch.random.set_rng_state",
)
# What they do or give is another thing at each call, and no guard sees it.
_EVERY_CALL = (
    "builtins.print",
    "builtins.input",
    "builtins.open",
    "os.urandom",
    "secrets.token_bytes",
    "uuid.uuid4",
    *(f"time.{name}" for name in (
        "localtime", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
        "process_time", "process_time_ns", "sleep", "thread_time", "time", "time_ns",
    )),
    *(f"random.{name}" for name in random.__all__ if not name[0].isupper()),
    *(f"random.Random.{name}" for name in random.__all__ if not name[0].isupper()),
    *(
        f"{module}.{name}"
        for module in ("numpy.random", "numpy.random.Generator", "numpy.random.RandomState")
        for name in (
            "bytes choice exponential gamma integers normal permutation permuted poisson rand "
            "randint randn random random_sample seed set_state shuffle standard_normal uniform"
        ).split()
    ),
    *(f"io.{file}.{name}"
      for file in ("StringIO", "BytesIO", "TextIOWrapper", "BufferedWriter", "FileIO")
      for name in ("flush", "read", "readline", "seek", "write", "writelines")),
    *(f"collections.deque.{name}" for name in (
        "append", "appendleft", "clear", "extend", "extendleft", "insert", "pop", "popleft",
        "remove", "reverse", "rotate",
    )),
)  # fmt: skip
# They look for wrappers of torch.func, which a proxy is not.
_UNCHANGED = (
    "torch._functorch.utils.unwrap_dead_wrappers",
    "torch._C._functorch.unwrap_if_dead",
)
# They read the process, not the program.
_NATIVE = (
    "warnings.warn",
    "warnings.warn_explicit",
    "inspect.signature",
    "inspect.getfullargspec",
    "inspect.unwrap",
    "importlib.import_module",
    "importlib.util.find_spec",
    "torch._dynamo.mark_static_address",
    "torch._dynamo.maybe_mark_dynamic",
    "torch._dynamo.mark_dynamic",
    "torch._logging.warning_once",
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
    # What they set is set while the program is followed, and put back at its end.
    ("torch._C._set_grad_enabled", "same", tracer.set_grad_enabled),
    ("torch.clear_autocast_cache", "same", tracer.clear_autocast_cache),
    ("fulmen.tracer.set_grad_enabled", "native", None),
    ("fulmen.tracer.clear_autocast_cache", "native", None),
    # Dynamo counts the modules that are made once it is loaded.
    ("torch._dynamo.mutation_guard.GenerationTracker.tag", "constant", None),
]


def install() -> None:
    """Registers the rules, those of modules that are loaded later when it is called again."""
    _install_own()
    for rule in list(_named_rules):
        callable_ = _find(rule[0])
        if callable_ is not None:
            _core.add_call_rule(callable_, rule[1], rule[2])
            _named_rules.remove(rule)


@functools.cache
def _install_own() -> None:
    for callable_ in _logging_functions():
        _core.add_call_rule(callable_, "native")
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
    _core.add_call_rule(torch.tensor, "create")
    _core.add_call_rule(torch.as_tensor, "create")


def _logging_functions() -> list[Any]:
    names = ("debug", "info", "warning", "error", "exception", "critical", "log")
    return [getattr(logging.Logger, n) for n in names] + [getattr(logging, n) for n in names]


__all__ = ["install"]
