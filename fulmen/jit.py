"""`fulmen.jit`: compile a function or a module, and leave everything else as it was."""

from __future__ import annotations

import copy
import functools
import operator
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from fulmen import _core, call_rules, log
from fulmen import sharp_edges as edges
from fulmen.compile import CompiledTrace, compile_trace
from fulmen.dynamo import FulmenCompiler
from fulmen.errors import (
    DataDependentError,
    SharpEdge,
    Unsupported,
    UserError,
    UserNotImplementedError,
    UserTypeError,
    UserValueError,
)
from fulmen.executor import Executor
from fulmen.options import CACHE, SHARP_EDGES, Options, make_options
from fulmen.stats import Stats
from fulmen.tracer import Tracer
from fulmen.transform import Transform

# The hook by which Python code that C code calls is followed is one for the whole process.
_ACQUIRING = threading.RLock()

# Guards of refused calls that are kept: where each call is another one, more would not help.
_MOST_REMEMBERED = 8


def jit(
    fn: Callable[..., Any] | torch.nn.Module,
    *,
    transforms: Sequence[Transform] = (),
    executors: Sequence[Executor | str] | None = None,
    fullgraph: bool = False,
    cache: str = CACHE.CONSTANT_VALUES,
    sharp_edges: str = SHARP_EDGES.ALLOW,
    memory_budget: float | None = None,
    **unknown: Any,
) -> Any:
    """Compiles a function or module.

    The program is found by following the Python bytecode of one call. What that call read decides
    when the program is used again; its side effects happen at every call.

    A module's result shares parameters, buffers, hooks and every other attribute with the module:
    it is an instance of its class, has the same `state_dict`, and follows its `train()` and
    `eval()`.

    Args:
        fn: a function or an nn.Module; it is not changed (unless a transform changes a module).
        transforms: applied to the module, then to every program.
        executors: who runs operations, first asked first: executors of fulmen.extend or their
            names; what they leave, ATen runs. None: the default list.
        fullgraph: raise instead of running a call in eager PyTorch.
        cache: when a program is used again, see docs/jit.md: "constant values" (where all that was
            read is the same), "symbolic values" (numbers may differ), "same input" (always; the
            caller's promise), "no caching" (never).
        sharp_edges: what becomes of a call that does what a program can't hold (random numbers of
            Python, clocks, files, printing): "allow" (eager PyTorch runs it), "warn", "error".
        memory_budget: of the memory that a forward keeps for its backward, the part that it may
            keep, from 0 to 1; the backward computes the rest again. 1 keeps everything; None
            computes again what takes practically no time. See docs/autodiff.md.

    Raises:
        UserTypeError: `fn` is neither a function nor a module; an option that there is none of.
        UserValueError: a value that an option can't have.
    """
    options = make_options(
        transforms, executors, fullgraph, cache, sharp_edges, memory_budget, unknown
    )
    call_rules.install()
    if isinstance(fn, torch.nn.Module):
        return _jit_module(fn, options)
    if not callable(fn):
        raise UserTypeError(
            f"jit(): got {type(fn).__name__}; expected a function or an nn.Module", "jit-argument"
        )
    jitted = Jitted(fn, options).function
    jitted._fulmen = jitted
    return functools.update_wrapper(jitted, fn)


class Jitted:
    """What a jitted function or module keeps: the programs, and what led to them.

    Attributes:
        fn: the user's function or module.
        options: what the user asked for.
        fuel: how many rewrites and claims its programs may still have.
        function: the native callable.
        compiled: every program so far, the newest last.
        acquired: what was read, and written, for each of them.
    """

    def __init__(
        self, fn: Callable[..., Any], options: Options, fuel: _core.Fuel | None = None
    ) -> None:
        self.fn = fn
        self.fuel = fuel or _core.fuel_from_flags()
        self.options = options
        self.counters = Stats()
        self.compiled: list[CompiledTrace] = []
        self.acquired: list[_core.Acquired] = []
        self._segments: dict[str, CompiledTrace] = {}
        self._warned: set[tuple[str, int]] = set()
        self._last_refusal = ""
        self._num_remembered = 0
        self._lock = threading.RLock()
        self.function = _core.JitFunction(self._miss, fn)
        self.function._fulmen_state = self

    def _miss(
        self, function: Any, ran: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, Any]:
        """What becomes of a call that no program takes: see `miss` in cpp/jit/function.cpp."""
        with self._lock:
            reasons = function.explain(*args, **kwargs)
            if ran is None and len(reasons) < function.counts[2]:
                return "again", None  # another thread compiled it meanwhile
            if self.compiled and ran is None and self.options.cache == CACHE.SAME_INPUT:
                raise _broken_promise(reasons)
            symbolic = self.options.cache == CACHE.SYMBOLIC_VALUES
            acquired = self._compile(args, kwargs, reasons, ran, symbolic)
        if not isinstance(acquired, _core.Acquired):
            return "eager", acquired
        result = acquired.run(args, kwargs)
        return ("done", result[0]) if result else ("eager", None)

    def _compile(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reasons: list[str],
        ran: Any,
        symbolic: bool,
    ) -> _core.Acquired | UserError | None:
        """Adds a program for these arguments.

        Args:
            reasons: why the programs so far do not take the call.
            ran: outputs of the segments that this call has run; see Note [Asking for a value].
            symbolic: whether numbers may stay open.

        Returns:
            None if eager PyTorch must run the call, of which nothing has happened then; an
            exception if eager will raise and this says better why.
        """
        start = time.perf_counter()
        call_rules.install()
        if self.options.cache == CACHE.NO_CACHING:
            self._segments.clear()
        try:
            acquired, tracer = self._acquire(args, kwargs, ran, symbolic)
        except (Unsupported, DataDependentError) as e:
            refused = e.__dict__.pop("acquired", None)
            if isinstance(e, SharpEdge):
                edges.meet(e, self.options.sharp_edges, self._warned)
            self._refuse(e)
            self._remember(refused, str(e))
            return None
        except UserError as refusal:
            if refusal.id == "operator-meta":
                raise  # eager PyTorch would not ask
            return refusal.with_traceback(None)
        except Exception as e:
            # The user's own exception: eager raises it, with everything that happens before.
            self._leave_to_eager(f"it raised {type(e).__name__}")
            return None
        cache = self.options.cache
        counters = self.counters
        counters.add_seconds("acquisition", time.perf_counter() - start)
        try:
            compiled = self._compile_trace(acquired.trace)
            function = None if cache == CACHE.NO_CACHING else self.function
            _core.install(function, acquired, compiled.program, cache == CACHE.SAME_INPUT)
        except Unsupported as e:
            acquired.undo()
            if symbolic:
                self._specialize_all(e)
                return self._compile(args, kwargs, reasons, ran, symbolic=False)
            self._refuse(e)
            return None
        except BaseException:
            acquired.undo()
            raise
        counters.fallbacks.update(tracer.fallbacks)
        counters.notes += tracer.notes
        counters.cache_misses += 1
        counters.guards.append(acquired.num_guards)
        counters.specialized += acquired.specialized
        if cache == CACHE.NO_CACHING:
            self.compiled.clear()
            self.acquired.clear()
        if reasons:
            counters.recompiles.append(reasons[0])
            log.recompile.info("recompiling %s: %s", _name_of(self.fn), "; ".join(reasons))
        self.compiled.append(compiled)
        self.acquired.append(acquired)
        return acquired

    def _refuse(self, why: Unsupported | DataDependentError) -> None:
        """No program can be made of the call: eager PyTorch runs it, where it may."""
        if self.options.fullgraph and isinstance(why, Unsupported):
            raise UserNotImplementedError(
                f"fullgraph=True, but eager PyTorch must run this call: {why}", "not-fullgraph"
            ) from why
        if self.options.fullgraph:
            raise why
        self._leave_to_eager(str(why))

    def _acquire(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], ran: Any, symbolic: bool
    ) -> tuple[_core.Acquired, Tracer]:
        """Follows the call; without symbolic numbers where some code can't take them."""
        compile_segment = None if self.options.fullgraph else self._compile_segment
        tracer = Tracer()
        _refuse_function_modes()
        try:
            with _ACQUIRING:
                acquired = _core.acquire(
                    self.fn, args, kwargs, tracer, compile_segment, ran, symbolic
                )
        except Exception as e:
            if not symbolic:
                raise
            found = self._acquire(args, kwargs, ran, symbolic=False)
            self._specialize_all(e)
            return found
        return acquired, tracer

    def _specialize_all(self, why: Exception) -> None:
        reason = f"all numbers: {type(why).__name__}: {why}"
        self.counters.specialized.append(reason)
        log.recompile.info("specialized %s", reason)

    def _survived(self, refusal: UserError) -> None:
        """Eager PyTorch ran a call that was expected to raise."""
        self._leave_to_eager(str(refusal))

    def _compile_segment(self, trace: _core.Trace) -> _core.Program:
        """The program of a part of a call; the same one for equal parts of two calls."""
        text = str(trace)
        compiled = self._segments.get(text)
        if compiled is None:
            compiled = self._compile_trace(trace)
            self._segments[text] = compiled
        return compiled.program

    def _remember(self, acquired: _core.Acquired | None, reason: str) -> None:
        """Calls like one that was refused are not followed any more.

        Only where two calls in a row were refused for one reason: the first may have been the one
        that initializes something.
        """
        again, self._last_refusal = reason == self._last_refusal, reason
        if acquired is None or not again or self.options.cache == CACHE.NO_CACHING:
            return
        if self._num_remembered < _MOST_REMEMBERED:
            self._num_remembered += 1
            _core.install_refusal(self.function, acquired, reason)

    def _left_again(self, reason: str) -> None:
        """Eager PyTorch runs a call like one that was refused."""
        self._leave_to_eager(reason)

    def _compile_trace(self, trace: _core.Trace) -> CompiledTrace:
        options = self.options
        return compile_trace(
            trace,
            options.transforms,
            self.counters,
            options.executors,
            self.fuel,
            options.memory_budget,
        )

    def _leave_to_eager(self, reason: str) -> None:
        self.counters.splits["the whole function"] = reason
        log.fallback.info("run by eager PyTorch: %s", reason)

    def stats(self) -> Stats:
        """The counters so far."""
        total = copy.deepcopy(self.counters)
        total.calls, total.cache_hits, _ = self.function.counts
        return total

    def last_compiled(self) -> CompiledTrace | None:
        """The program compiled last."""
        return self.compiled[-1] if self.compiled else None

    def all_programs(self) -> list[CompiledTrace]:
        """The programs, those of parts of calls included."""
        return [*self._segments.values(), *self.compiled]

    def last_traces(self) -> list[_core.Trace]:
        """All stages of the program compiled last, the acquired trace first."""
        return list(self.compiled[-1].stages) if self.compiled else []


def _refuse_function_modes() -> None:
    """A mode changes what functions of PyTorch do: torch.device and set_default_device are such."""
    active = torch.overrides._get_current_function_mode_stack()
    if active:
        device = getattr(active[-1], "device", None)
        what = type(active[-1]).__name__ if device is None else f"torch.device('{device}')"
        raise Unsupported(f"a mode of torch functions is on: {what}")


def _broken_promise(reasons: list[str]) -> UserValueError:
    why = f" ({reasons[0]})" if reasons else ""
    return UserValueError(
        f"cache='same input' promises that every call is like the first, but the compiled program "
        f"can't take this one{why}; use cache='constant values'",
        "same-input",
    )


class _JittedModule:
    """Mixed into the class of a module: calls run compiled, everything else is the module's.

    The instance shares its `__dict__` with the module, so that each sees what the other changes.
    """

    __slots__ = ("_fulmen", "_fulmen_module")

    _fulmen: Any
    _fulmen_module: torch.nn.Module

    # Found by attrgetter, which is C: a traceback shows no frame of ours.
    __call__ = property(operator.attrgetter("_fulmen"))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        module = copy.deepcopy(self._fulmen_module, memo)
        state = self._fulmen._fulmen_state
        return _jit_module(module, state.options, again=True)

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = self._fulmen._fulmen_state
        return _rejit, (self._fulmen_module, state.options)


def _rejit(module: torch.nn.Module, options: Options) -> Any:
    call_rules.install()
    return _jit_module(module, options, again=True)


@functools.cache
def _jitted_class(cls: type) -> type:
    return type(
        cls.__name__,
        (_JittedModule, cls),
        {
            "__slots__": (),
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "__qualname__": cls.__qualname__,
        },
    )


def _jit_module(module: torch.nn.Module, options: Options, again: bool = False) -> Any:
    if isinstance(module, _JittedModule):
        module = module._fulmen_module
    if not again:
        for transform in options.transforms:
            transform.transform_module(module)
    cls: Any = _jitted_class(type(module))  # type: ignore[arg-type] # types are hashable
    jitted = object.__new__(cls)
    object.__setattr__(jitted, "__dict__", module.__dict__)
    object.__setattr__(jitted, "_fulmen_module", module)
    object.__setattr__(jitted, "_fulmen", Jitted(module, options).function)
    return jitted


def _name_of(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def state_of(fn: Any) -> Any:
    """What a jitted function keeps; a FulmenCompiler is its own."""
    if isinstance(fn, FulmenCompiler):
        return fn
    function = getattr(fn, "_fulmen", None)
    if not isinstance(function, _core.JitFunction):
        raise UserTypeError(
            f"got {type(fn).__name__}; expected what fulmen.jit returned, or a FulmenCompiler",
            "not-jitted",
        )
    return function._fulmen_state


def last_traces(fn: Any) -> list[_core.Trace]:
    """All stages of the program that `fn` compiled last: acquired first, executed last."""
    return state_of(fn).last_traces()


def last_compiled(fn: Any) -> CompiledTrace | None:
    """The program that `fn` compiled last, if there is one."""
    compiled: CompiledTrace | None = state_of(fn).last_compiled()
    return compiled


class Prologue(str):
    """The guards of a program, as the text of a Python function.

    Executed with `constants` as its globals, it defines `prologue`, which takes the arguments of
    the jitted function, raises where a guard does not hold, and returns the program's inputs.

    Attributes:
        constants: the objects that the text names.
    """

    constants: dict[str, Any]


_ABSENT = object()


def _lookup(cls: type, name: str) -> Any:
    """What looking `name` up on a class finds, past its descriptors."""
    return next((c.__dict__[name] for c in cls.__mro__ if name in c.__dict__), _ABSENT)


def last_prologue(fn: Any) -> Prologue:
    """The guards of the program that `fn` compiled last; empty if there is none."""
    acquired = state_of(fn).acquired
    constants: dict[str, Any] = {"lookup": _lookup, "absent": _ABSENT}
    text = Prologue(acquired[-1].prologue(constants) if acquired else "")
    text.constants = constants
    return text


def stats(fn: Any) -> Stats:
    """Calls, hits, misses, compile seconds by phase, instructions, kernels, fallbacks."""
    return state_of(fn).stats()
