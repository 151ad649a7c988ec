"""A random program: its statements, and the Python text that runs them."""

from __future__ import annotations

import dataclasses
import linecache
import textwrap
from collections.abc import Callable
from typing import Any

HEADER = """\
import torch
import torch.nn.functional as F
from torch import nn
"""


@dataclasses.dataclass(frozen=True)
class Program:
    """Statements are lines of text, or blocks of several lines.

    Attributes:
        inputs: make the arguments, from a generator `g` (and a module `m`).
        args: the arguments' names.
        body: the statements of the function.
        returns: names of the results.
        state: make the parameters and buffers of the module `m`; None: it is a plain function.
        cache: the cache mode.
    """

    inputs: tuple[str, ...]
    args: tuple[str, ...]
    body: tuple[str, ...]
    returns: tuple[str, ...]
    state: tuple[str, ...] | None = None
    cache: str = "constant values"

    def text(self) -> str:
        """Defines `make_function()` and `make_inputs(seed, function)`."""
        body = [*self.body, f"return {_tuple(self.returns)}"]
        if self.state is None:
            names = ", ".join(self.args)
            function = [f"def function({names}):", _indented(body), ""]
            function += ["def make_function():", "    return function"]
        else:
            names = ", ".join(("self", *self.args))
            function = ["class Module(nn.Module):", f"    def forward({names}):"]
            function += [_indented(body, 2), "", "def make_function():"]
            function += [_indented(["m = Module()", *self.state, "return m"])]
        made = ["g = torch.Generator().manual_seed(seed)", *self.inputs]
        made += [f"return locals(), {_tuple(self.args)}"]
        lines = [HEADER, "", *function, "", "def make_inputs(seed, m):", _indented(made), ""]
        return "\n".join(lines)

    def statements(self) -> int:
        return len(self.body)


def _tuple(names: tuple[str, ...]) -> str:
    return f"({', '.join(names)}{',' if len(names) == 1 else ''})"


def _indented(statements: list[str], levels: int = 1) -> str:
    return textwrap.indent("\n".join(statements), "    " * levels)


def load(text: str, name: str) -> tuple[Callable[[], Any], Callable[[int, Any], Any]]:
    """The two functions of a program's text, with lines that a traceback can show."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(text, filename, "exec"), scope)
    return scope["make_function"], scope["make_inputs"]
