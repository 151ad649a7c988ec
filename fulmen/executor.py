"""What executors are made of: `OperatorExecutor`, `FusionExecutor`, and the operators they bring.

Users import these names from `fulmen.extend`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fulmen import _core, tracer
from fulmen.errors import UserRuntimeError, UserTypeError, UserValueError
from fulmen.tracer import TraceMode, Tracer

_state = threading.local()


class Executor:
    """Who runs operations. Use OperatorExecutor or FusionExecutor.

    Attributes:
        name: how programs and reports name it.
        native: its native side.
    """

    def __init__(self, name: str, native: _core.Executor) -> None:
        self.name = name
        self.native = native

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> Any:
        return _found, (self.name,)


def _found(name: str) -> Any:
    # A pickled function names its executors; where it is read they are registered.
    try:
        return _registry[name]
    except KeyError:
        raise UserValueError(
            f"there is no executor named {name!r}; register it before reading what uses it",
            "unknown-executor",
        ) from None


_registry: dict[str, Executor] = {}
"""Every registered executor by its name, those that are built in first."""


def check_name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise UserValueError(
            f"got {name!r} as the name of an executor; expected a Python identifier",
            "executor-name",
        )
    return name


@dataclasses.dataclass(frozen=True)
class _Implementation:
    run: Callable[..., Any] | None
    checker: Callable[..., Any] | None
    grad_transform: Callable[..., Any] | None


class Operator:
    """An operation of a user's: a call runs its function, or is recorded in a traced program."""

    def __init__(self, symbol: _core.Symbol, fn: Callable[..., Any]) -> None:
        self.symbol = symbol
        self.fn = fn
        self.__name__ = symbol.name
        self.__doc__ = fn.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not tracer.is_tracing():
            return self.fn(*args, **kwargs)
        current = tracer.current_tracer()
        current.set_source_from_stack()
        return current.recorder.record_symbol(self.symbol, args, kwargs)

    def __repr__(self) -> str:
        return f"<operator {self.symbol.name}>"


class _Face:
    """The Python side of an operator's symbol."""

    def __init__(
        self,
        name: str,
        meta: Callable[..., Any],
        fn: Callable[..., Any],
        like: Callable[..., Any] | None,
        keyword_only: tuple[str, ...],
        make: Callable[[], Callable[..., Any]] | None,
    ) -> None:
        self.name = name
        self.make = make
        self.meta = meta
        self.implementation = fn
        self.like = like
        self.has_decomposition = like is not None
        self.keyword_only = keyword_only

    def _call(self, fn: Callable[..., Any], recorder: Any, args: tuple[Any, ...]) -> Any:
        count = len(args) - len(self.keyword_only)
        named = dict(zip(self.keyword_only, args[count:], strict=True))
        with Tracer(recorder) as t, TraceMode(t):
            return fn(*args[:count], **named)

    def _meta(self, recorder: Any, args: tuple[Any, ...]) -> Any:
        try:
            return self._call(self.meta, recorder, args)
        except Exception as e:
            raise UserRuntimeError(
                f"the meta function of {self.name}() raised {type(e).__name__}: {e}"
                f"{recorder.source_suffix}",
                "operator-meta",
            ) from e

    def _decompose(self, recorder: Any, args: tuple[Any, ...]) -> Any:
        assert self.like is not None
        return self._call(self.like, recorder, args)


class OperatorExecutor(Executor):
    """Runs single operations: those that implementations are registered for, and its own.

    ```python
    ex = OperatorExecutor("mine")
    gelu = ex.register_operator("gelu", like=torch.nn.functional.gelu, fn=my_gelu)
    ex.register_implementation(torch.nn.functional.gelu, gelu)
    register_executor(ex)
    ```
    """

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(check_name(name), _core.operator_executor(name, self))
        self.version = version
        self._implementations: dict[str, _Implementation] = {}
        self.operators: dict[str, Operator] = {}

    def register_operator(
        self,
        name: str,
        *,
        fn: Callable[..., Any],
        like: Callable[..., Any] | None = None,
        meta: Callable[..., Any] | None = None,
        tags: Sequence[str] = ("pure",),
        replaces: Callable[..., Any] | None = None,
    ) -> Operator:
        """Makes an operation that programs can hold.

        Args:
            name: a Python identifier; traces print `fulmen.symbols.<executor>.<name>(...)`.
            fn: what runs: takes and returns tensors and numbers. It writes to no argument.
            like: a function in torch operations that gives the same; what it says of types is
                `fn`'s metadata, and its gradient is `fn`'s.
            meta: says the results' metadata alone, as a fake implementation of torch.library:
                returns tensors made from the arguments, `torch.empty_like(x)`. Gradients are then
                PyTorch's of `fn`, or those of a grad_transform.
            tags: pure, pointwise, reduction, random, effect, matmul, non_differentiable.
            replaces: a Python function. Where a program calls it, it calls this operation.

        Raises:
            UserTypeError: neither or both of `like` and `meta`; a signature with *args or **kwargs.
            UserValueError: a name or tag that there is none of.
        """
        return self._register(name, fn, like, meta, tags, replaces, None)

    def _register(
        self,
        name: str,
        fn: Callable[..., Any],
        like: Callable[..., Any] | None,
        meta: Callable[..., Any] | None,
        tags: Sequence[str],
        replaces: Callable[..., Any] | None,
        make: Callable[[], Callable[..., Any]] | None,
    ) -> Operator:
        if (like is None) == (meta is None):
            raise UserTypeError(
                f"register_operator({name!r}): expected one of like= and meta=", "operator-meta"
            )
        if not isinstance(name, str) or not name.isidentifier():
            raise UserValueError(
                f"got {name!r} as the name of an operator; expected a Python identifier",
                "executor-name",
            )
        full = f"{self.name}.{name}"
        schema, keyword_only = _schema(full, fn)
        rule = meta if meta is not None else like
        assert rule is not None
        face = _Face(full, rule, fn, like, keyword_only, make)
        symbol = _core.define_symbol(schema, self.name, list(tags), face)
        operator = Operator(symbol, fn)
        self.operators[name] = operator
        tracer.add_operator(operator)
        _core.add_call_rule(operator, "create")
        if replaces is not None:
            _core.add_call_rule(replaces, "same", operator)
        return operator

    def register_implementation(
        self,
        symbol: Any,
        op: Callable[..., Any] | None = None,
        *,
        checker: Callable[..., Any] | None = None,
        execution_transform: Callable[..., Any] | None = None,
        grad_transform: Callable[..., Any] | None = None,
    ) -> None:
        """Says what runs in place of calls of a symbol.

        All functions are called with the arguments of the call, those that have their default left
        out; tensors are proxies.

        Args:
            symbol: a torch function, a symbol's name ("gelu"), a Symbol or an Operator.
            op: an operation of register_operator that takes the call's place.
            checker: whether it can: True or False, or a text that says why not.
            execution_transform: in place of `op`, a function in torch operations and operators,
                recorded in the call's place.
            grad_transform: computes the result, and gives gradients by `get_grad` and `put_grad`.
                Without it the gradient is the symbol's own.

        Raises:
            UserTypeError: neither or both of `op` and `execution_transform`.
            UserValueError: a symbol that there is none of.
        """
        if (op is None) == (execution_transform is None):
            raise UserTypeError(
                "register_implementation(): expected one of op and execution_transform=",
                "executor-implementation",
            )
        run = op if op is not None else execution_transform
        for s in symbols_of(symbol):
            self._implementations[s.name] = _Implementation(run, checker, grad_transform)
            self.native.add_symbol(s)

    def _refusal(self, bsym: _core.BoundSymbol, under_autograd: bool) -> str:
        implementation = self._implementations[bsym.symbol.name]
        args, kwargs = bsym.arguments
        if isinstance(implementation.run, Operator):
            try:
                inspect.signature(implementation.run.fn).bind(*args, **kwargs)
            except TypeError as e:
                return f"{implementation.run.symbol.name}() {e}"
        del under_autograd
        if implementation.checker is None:
            return ""
        try:
            answer = implementation.checker(*args, **kwargs)
        except Exception as e:
            raise UserRuntimeError(
                f"executor {self.name}: the checker for {bsym.symbol.name}() raised "
                f"{type(e).__name__}: {e}{_where(bsym)}",
                "executor-checker",
            ) from e
        if isinstance(answer, str):
            return answer
        return "" if answer else "its checker refuses these arguments"

    def _rewrite(self, recorder: Any, bsym: _core.BoundSymbol) -> Any:
        implementation = self._implementations[bsym.symbol.name]
        assert implementation.run is not None
        args, kwargs = bsym.arguments
        with Tracer(recorder) as t, TraceMode(t):
            return implementation.run(*args, **kwargs)

    def _own_gradient(self, recorder: Any, bsym: _core.BoundSymbol) -> Any:
        implementation = self._implementations.get(bsym.symbol.name)
        if implementation is None or implementation.grad_transform is None:
            return None
        args, kwargs = bsym.arguments
        rules = _Gradients(recorder)
        outer = getattr(_state, "gradients", None)
        _state.gradients = rules
        try:
            with Tracer(recorder) as t, TraceMode(t):
                output = implementation.grad_transform(*args, **kwargs)
        finally:
            _state.gradients = outer
        return output, rules.asked, list(rules.put.values())


class StatefulExecutor(OperatorExecutor):
    """An operator executor some of whose operators keep a state for each place that uses them."""

    def register_stateful_operator(
        self,
        name: str,
        make: Callable[[], Callable[..., Any]],
        *,
        like: Callable[..., Any] | None = None,
        meta: Callable[..., Any] | None = None,
        tags: Sequence[str] = (),
        replaces: Callable[..., Any] | None = None,
    ) -> Operator:
        """As `register_operator`, with a callable of its own for each use in a program.

        Args:
            make: makes the callable, when a program is compiled; a class with `__call__`, say. It
                lives as long as the program. Calls outside of programs share one.
            tags: without "pure", the default, every use stays, though others are equal to it.
        """
        shared: list[Callable[..., Any]] = []

        def fn(*args: Any, **kwargs: Any) -> Any:
            if not shared:
                shared.append(make())
            return shared[0](*args, **kwargs)

        rule = meta if meta is not None else like
        if rule is not None:
            functools.update_wrapper(fn, rule)
        return self._register(name, fn, like, meta, tags, replaces, make)


class FusionExecutor(Executor):
    """Runs regions: operations that are connected, as one.

    Override `can_fuse` and `fuse`.

    Attributes:
        min_size: the fewest operations that are worth a region.
    """

    min_size = 2

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(check_name(name), _core.fusion_executor(name, self, self.min_size))
        self.version = version

    def can_fuse(self, bsym: _core.BoundSymbol) -> bool | str:
        """Whether a bound symbol may be part of a region: True or False, or why not."""
        raise NotImplementedError

    def fuse(self, region: _core.Trace) -> Callable[..., Any]:
        """What runs a region: takes its inputs, and returns its tensor or tuple of tensors.

        `region` is a trace; `python_callable(region)` is what PyTorch would run.
        """
        raise NotImplementedError

    def _refusal(self, bsym: _core.BoundSymbol) -> str:
        answer = self.can_fuse(bsym)
        if isinstance(answer, str):
            return answer
        return "" if answer else "it fuses no such operation"

    def _fuse(self, region: _core.Trace) -> Callable[..., Any]:
        return self.fuse(region)


class _Gradients:
    def __init__(self, recorder: Any) -> None:
        self.recorder = recorder
        self.asked: list[tuple[Any, Any]] = []
        self.put: dict[int, tuple[Any, Any]] = {}


def _gradients(what: str) -> _Gradients:
    rules = getattr(_state, "gradients", None)
    if rules is None:
        raise UserRuntimeError(
            f"{what}(): called outside of a grad_transform; see docs/executors.md", "grad-transform"
        )
    found: _Gradients = rules
    return found


def get_grad(result: Any) -> Any:
    """In a grad_transform: the gradient of a tensor that it returns."""
    rules = _gradients("get_grad")
    for known, gradient in rules.asked:
        if known is result:
            return gradient
    gradient = rules.recorder.gradient_of(result)
    rules.asked.append((result, gradient))
    return gradient


def put_grad(argument: Any, gradient: Any) -> None:
    """In a grad_transform: the gradient of one of its arguments; a second one is added to it."""
    rules = _gradients("put_grad")
    if gradient is None:
        return
    if not isinstance(argument, _core.TensorProxy):
        raise UserTypeError(
            f"put_grad(): got {type(argument).__name__}; expected a tensor argument",
            "grad-transform",
        )
    before = rules.put.get(argument.proxy_id)
    rules.put[argument.proxy_id] = (argument, before[1] + gradient if before else gradient)


def symbols_of(symbol: Any) -> list[_core.Symbol]:
    """The symbols behind a torch function, a name, a Symbol or an Operator."""
    if isinstance(symbol, Operator):
        return [symbol.symbol]
    if isinstance(symbol, _core.Symbol):
        return [symbol]
    if isinstance(symbol, str):
        found = _core.find_symbol(symbol)
        if found is not None:
            return [found]
    elif callable(symbol):
        rows: list[_core.Symbol] = _core.rows_of(symbol)
        if rows:
            return rows
    raise UserValueError(
        f"register_implementation(): there is no symbol {symbol!r}; expected a torch function that "
        "has one, a name of fulmen.symbols, or what register_operator returned",
        "unknown-symbol",
    )


def call_symbol(name: str, *args: Any, **kwargs: Any) -> Any:
    """Records a call of a symbol that no function of PyTorch is, in a program that is traced."""
    symbol = _core.find_symbol(name)
    assert symbol is not None, name
    return tracer.current_tracer().recorder.record_symbol(symbol, args, kwargs)


def python_callable(trace: _core.Trace) -> Callable[..., Any]:
    """The trace as the Python function that it prints as."""
    scope = dict(trace.constants)
    exec(compile(str(trace), f"<{trace.name}>", "exec"), scope)
    function: Callable[..., Any] = scope[trace.name]
    return function


def _where(bsym: _core.BoundSymbol) -> str:
    if bsym.source is None:
        return ""
    file, line, function = bsym.source
    return f"  [{file.rpartition('/')[2]}:{line} in {function}]"


def _schema(name: str, fn: Callable[..., Any]) -> tuple[str, tuple[str, ...]]:
    """The schema text of a function, and the names of its keyword-only parameters."""
    params: list[str] = []
    keyword_only: list[str] = []
    try:
        signature = inspect.signature(fn)
    except ValueError:
        raise UserTypeError(
            f"register_operator(): the function of {name} has no signature; wrap it in a Python "
            "function",
            "operator-signature",
        ) from None
    for p in signature.parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise UserTypeError(
                f"register_operator(): {name} has a parameter {p}; expected named parameters only",
                "operator-signature",
            )
        if p.kind == p.KEYWORD_ONLY:
            if not keyword_only:
                params.append("*")
            keyword_only.append(p.name)
        params.append(f"any {p.name}" + _default(name, p))
    return f"{name}({', '.join(params)}) -> any", tuple(keyword_only)


def _default(name: str, p: inspect.Parameter) -> str:
    value = p.default
    if value is p.empty:
        return ""
    plain = value is None or type(value) in (bool, int, float)
    if plain or (type(value) is str and value.isidentifier()):
        return f"={value!r}"
    if isinstance(value, torch.memory_format):
        return f"={value}"
    raise UserTypeError(
        f"register_operator(): {name} has the default {p}; expected None, a number or a word",
        "operator-signature",
    )
