"""What a program can't hold: what is another thing at each call, and what only the call may do.

A call that meets such an edge is run by eager PyTorch; `sharp_edges=` of `fulmen.jit` makes it a
warning or an error.
"""

from __future__ import annotations

import sys
import sysconfig
import types
import warnings
from pathlib import Path
from typing import Any

import torch

from fulmen.errors import SharpEdge, SharpEdgeError, SharpEdgeWarning
from fulmen.options import SHARP_EDGES

_STDLIB = sysconfig.get_path("stdlib")
_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))

# What a callable's name begins with → what to do instead.
_REMEDIES = {
    "random.": "draw random numbers with torch, or pass them in as arguments",
    "numpy.random": "draw random numbers with torch, or pass them in as arguments",
    "time.": "look at the clock outside of the jitted function",
    "datetime.": "look at the clock outside of the jitted function",
    "print": "print outside of the jitted function",
    "open": "read and write files outside of the jitted function",
}
# Where C code lives → where users find it.
_PUBLIC = {"posix": "os", "_thread": "threading", "_uuid": "uuid", "_socket": "socket"}
_REMEDY = "move it out of the jitted function"


def refusal(what: Any) -> SharpEdge:
    """The exception for what the running program does.

    Args:
        what: a callable, or what it does in words.
    """
    text = what if isinstance(what, str) else f"a trace can't express {_name_of(what)}()"
    frame = _user_frame()
    if frame is None:
        return SharpEdge(text)
    code = frame.f_code
    where = f"  [{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}]"
    return SharpEdge(text + where, file=code.co_filename, line=frame.f_lineno)


def meet(edge: SharpEdge, mode: SHARP_EDGES, seen: set[tuple[str, int]]) -> None:
    """Warns of the edge, once per line, or raises, where the user asked for it.

    Raises:
        SharpEdgeError: in the mode "error".
    """
    if mode == SHARP_EDGES.ALLOW:
        return
    name = str(edge).removeprefix("a trace can't express ")
    remedy = next((r for start, r in _REMEDIES.items() if name.startswith(start)), _REMEDY)
    if mode == SHARP_EDGES.ERROR:
        raise SharpEdgeError(
            f"{edge}; {remedy}, or use sharp_edges='allow', with which eager PyTorch runs the call",
            "sharp-edge",
        )
    if (edge.file, edge.line) in seen:
        return
    seen.add((edge.file, edge.line))
    message = f"eager PyTorch runs this call: {edge}; {remedy}"
    warnings.warn_explicit(message, SharpEdgeWarning, edge.file or "?", edge.line)


def _name_of(callable_: Any) -> str:
    owner = getattr(callable_, "__objclass__", None)
    if owner is None and isinstance(callable_, types.BuiltinMethodType):
        owner = callable_.__self__
        owner = owner if isinstance(owner, type | types.ModuleType) else type(owner)
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}.{callable_.__name__}".lstrip("_")
    module = getattr(callable_, "__module__", None) or getattr(owner, "__name__", "")
    name = getattr(callable_, "__qualname__", None) or repr(callable_)
    if module in ("builtins", "io", "_io", "", None):
        return str(name)
    return f"{_PUBLIC.get(module, module)}.{name}"


def _user_frame() -> types.FrameType | None:
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        in_stdlib = file.startswith((_STDLIB, "<frozen ")) and "site-packages" not in file
        if not in_stdlib and not file.startswith(_NOT_THE_USERS):
            return frame
        frame = frame.f_back
    return None
