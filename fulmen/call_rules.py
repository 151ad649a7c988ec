"""What the interpreter does with calls that it must not follow as they stand.

Everything without a rule is followed (Python functions) or recorded (operations of PyTorch). See
`CallRule` in cpp/jit/call_rules.h for what a rule means.
"""

from __future__ import annotations

import functools
import importlib
import logging
import random
from collections.abc import Iterator
from typing import Any

import torch

from fulmen import _core, fallback, polyfills, proxy, tracer


def _named(*names: str) -> Iterator[Any]:
    """The callables behind dotted names; one that this PyTorch does not have is left out."""
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            target: Any = importlib.import_module(module)
        except ImportError:
            outer, _, cls = module.rpartition(".")
            try:
                target = getattr(importlib.import_module(outer), cls)
            except (ImportError, AttributeError):
                continue
        found = getattr(target, attribute, None)
        if found is not None:
            yield found


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
    "torch._C._InferenceMode",
    "torch.set_autocast_enabled",
    "torch.set_autocast_dtype",
    "torch.set_autocast_cache_enabled",
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


@functools.cache
def install() -> None:
    """Registers the rules; once a process."""
    for callable_ in _named(*_TRUE):
        _core.add_call_rule(callable_, "constant", True)
    for callable_ in _named(*_FALSE):
        _core.add_call_rule(callable_, "constant", False)
    for callable_ in (*_named(*_NATIVE), *_logging_functions()):
        _core.add_call_rule(callable_, "native")
    for callable_ in _named(*_REFUSED, *_EVERY_CALL):
        _core.add_call_rule(callable_, "refuse")
    _core.add_call_rule(torch.nn.Module.__getattr__, "module")
    for callable_ in _named("torch._higher_order_ops.associative_scan.associative_scan"):
        _core.add_call_rule(callable_, "same", polyfills.associative_scan)
    for callable_ in _named(*_UNCHANGED):
        _core.add_call_rule(callable_, "same", _unchanged)
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
