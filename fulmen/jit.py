"""`fulmen.jit`: compile a function or a module, and leave everything else as it was."""

from __future__ import annotations

import copy
import functools
import itertools
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fulmen import _core
from fulmen.dynamo import FulmenCompiler
from fulmen.errors import UserTypeError, user_error_like
from fulmen.stats import Stats
from fulmen.transform import Transform

# Shapes are specialized, each compiled in milliseconds: the limit that makes Dynamo give up and run
# eager is set far beyond what a program needs.
_RECOMPILE_LIMIT = 1_000_000
_serial = itertools.count()


def jit(
    fn: Callable[..., Any] | torch.nn.Module,
    *,
    transforms: Sequence[Transform] = (),
    fullgraph: bool = False,
) -> Any:
    """Compiles a function or module.

    A module's result shares parameters, buffers, hooks and every other attribute with the module:
    it is an instance of its class, has the same `state_dict`, and follows its `train()` and
    `eval()`.

    Args:
        fn: a function or an nn.Module; it is not changed (unless a transform changes a module).
        transforms: applied to the module, then to every program.
        fullgraph: raise instead of running a part in eager PyTorch.

    Raises:
        UserTypeError: `fn` is neither a function nor a module.
    """
    if isinstance(fn, torch.nn.Module):
        return _jit_module(fn, tuple(transforms), fullgraph)
    if not callable(fn):
        raise UserTypeError(
            f"jit(): got {type(fn).__name__}; expected a function or an nn.Module", "jit-argument"
        )
    compiled = _Compiled(fn, tuple(transforms), fullgraph)

    @functools.wraps(fn)
    def jitted(*args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **kwargs)

    jitted._fulmen = compiled  # type: ignore[attr-defined]
    return jitted


class _Compiled:
    """A callable behind torch.compile with a backend of its own."""

    def __init__(
        self, fn: Callable[..., Any], transforms: tuple[Transform, ...], fullgraph: bool
    ) -> None:
        self.fn = fn
        self.transforms = transforms
        self.fullgraph = fullgraph
        self.backend = FulmenCompiler(transforms=transforms)
        self._call: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is None:
            # Hooks that are registered after a compilation count; no setting of one call says so.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
            _lift_limits()
            self._call = torch.compile(
                _fresh_function(self.fn),
                backend=self.backend,
                fullgraph=self.fullgraph,
                dynamic=False,
            )
        try:
            return self._call(*args, **kwargs)
        except Exception as e:
            if not _is_refusal(e):
                raise
            refusal = e
        return self._call_refused(refusal, args, kwargs)

    def _call_refused(self, refusal: Exception, args: Any, kwargs: Any) -> Any:
        """Lets eager decide on a call that Dynamo refused: its error, or its result."""
        try:
            result = self.fn(*args, **kwargs)
        except _BUILT_IN as e:
            if type(e) not in _BUILT_IN:
                raise
            raise user_error_like(e, f"{e}{_user_line(e)}", "refused-call") from e
        if self.fullgraph:
            raise refusal
        self.backend.splits["the whole function"] = str(refusal).partition("\n")[0]
        return result


_BUILT_IN = (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError)
_TORCH_DIR = str(Path(torch.__file__).parent)
_FULMEN_DIR = str(Path(__file__).parent)


def _is_refusal(error: Exception) -> bool:
    """Whether Dynamo refused the function as a whole: nothing of it has run yet."""
    if isinstance(error, torch._dynamo.exc.TorchRuntimeError):
        stack = getattr(error, "real_stack", None) or []
        return len(stack) > 0 and stack[0].filename == __file__
    if isinstance(error, torch._dynamo.exc.Unsupported):
        return False
    # Dynamo passes some exceptions on as they are, with the stack added to the message.
    _, _, stack_text = str(error).partition("\n\nfrom user code:\n")
    return stack_text.lstrip().startswith(f'File "{__file__}"')


def _user_line(error: BaseException) -> str:
    """`  [model.py:41 in forward]` for the innermost frame outside torch and Fulmen."""
    found = ""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in frames:
        if not frame.filename.startswith((_TORCH_DIR, _FULMEN_DIR)):
            found = f"  [{Path(frame.filename).name}:{frame.lineno} in {frame.name}]"
    return found


def _lift_limits() -> None:
    """Raises Dynamo's limits for the whole process: past them it would silently run eager."""
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, _RECOMPILE_LIMIT)


def _fresh_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls `fn`, with a code object of its own: Dynamo caches by code object."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    code = call.__code__
    return types.FunctionType(
        # Code objects compare by value: a number of its own tells this one from its like.
        code.replace(
            co_name=getattr(fn, "__name__", "call"), co_consts=(*code.co_consts, next(_serial))
        ),
        call.__globals__,
        call.__name__,
        call.__defaults__,
        call.__closure__,
    )


class _JittedModule:
    """Mixed into the class of a module: calls run compiled, everything else is the module's.

    The instance shares its `__dict__` with the module, so that each sees what the other changes.
    """

    __slots__ = ("_fulmen", "_fulmen_module")
    _fulmen: _Compiled
    _fulmen_module: torch.nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fulmen(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        module = copy.deepcopy(self._fulmen_module, memo)
        return _jit_module(module, self._fulmen.transforms, self._fulmen.fullgraph, again=True)

    def __reduce_ex__(self, protocol: Any) -> Any:
        compiled = self._fulmen
        return _rejit, (self._fulmen_module, compiled.transforms, compiled.fullgraph)


def _rejit(module: torch.nn.Module, transforms: tuple[Transform, ...], fullgraph: bool) -> Any:
    return _jit_module(module, transforms, fullgraph, again=True)


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


def _jit_module(
    module: torch.nn.Module,
    transforms: tuple[Transform, ...],
    fullgraph: bool,
    again: bool = False,
) -> Any:
    if isinstance(module, _JittedModule):
        module = module._fulmen_module
    if not again:
        for transform in transforms:
            transform.transform_module(module)
    cls: type = type(module)
    jitted: Any = object.__new__(_jitted_class(cls))
    object.__setattr__(jitted, "__dict__", module.__dict__)
    object.__setattr__(jitted, "_fulmen_module", module)
    object.__setattr__(jitted, "_fulmen", _Compiled(module, transforms, fullgraph))
    return jitted


def _backend_of(fn: Any) -> FulmenCompiler:
    compiled = getattr(fn, "_fulmen", None)
    if isinstance(fn, FulmenCompiler):
        return fn
    if compiled is None:
        raise UserTypeError(
            f"got {type(fn).__name__}; expected what fulmen.jit returned, or a FulmenCompiler",
            "not-jitted",
        )
    return compiled.backend


def last_traces(fn: Any) -> list[_core.Trace]:
    """All stages of the program that `fn` compiled last: acquired first, executed last."""
    return _backend_of(fn).last_traces()


def stats(fn: Any) -> Stats:
    """Calls, hits, misses, compile seconds by phase, instructions, kernels, fallbacks."""
    return _backend_of(fn).stats()
