"""Exceptions: chains, tracebacks, groups, with blocks."""

import contextlib
import sys

from registry import program


@program
def chained(effects):
    try:
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("a") from error
    except ValueError as error:
        effects.append(repr(error.__cause__))
        try:
            raise TypeError("b")
        except TypeError as other:
            effects.append(repr(other.__context__))
            raise OSError("c") from None


def raises_deep(n):
    if n:
        raises_deep(n - 1)
    else:
        raise LookupError("at the bottom")


@program
def across_functions(effects):
    try:
        raises_deep(3)
    finally:
        effects.append("cleaned")


@program
def bare_raise(effects):
    try:
        raises_deep(1)
    except LookupError:
        effects.append(sys.exc_info()[0].__name__)
        raise


@program
def nothing_to_reraise(effects):
    raise


@program
def raises_no_exception(effects):
    raise 1


@program
def catches_no_class(effects):
    try:
        1 / 0
    except 5:
        pass


@program
def with_blocks(effects):
    class Manager:
        def __init__(self, name, swallow=False):
            self.name, self.swallow = name, swallow

        def __enter__(self):
            effects.append(f"enter {self.name}")
            return self

        def __exit__(self, kind, value, trace):
            effects.append((self.name, kind and kind.__name__, trace and trace.tb_lineno > 0))
            return self.swallow

    with Manager("a", True), Manager("b") as b:
        effects.append(b.name)
        raise KeyError(1)
    with contextlib.suppress(ZeroDivisionError), contextlib.ExitStack() as stack:
        stack.callback(effects.append, "callback")
        1 / 0

    @contextlib.contextmanager
    def managed():
        try:
            yield 1
        except ValueError as error:
            effects.append(repr(error))

    with managed() as one:
        raise ValueError(one)
    with object():
        pass


@program
def exception_groups(effects):
    try:
        try:
            raise ExceptionGroup("g", [ValueError(1), TypeError(2), KeyError(3)])
        except* ValueError as group:
            effects.append(repr(group))
        except* TypeError:
            raise OSError("while handling")  # noqa: B904
    except ExceptionGroup as rest:
        effects.append([repr(e) for e in rest.exceptions])
    try:
        try:
            raise ValueError("plain")
        except* ValueError as group:
            effects.append(repr(group))
            raise
    except ExceptionGroup as again:
        return repr(again)


@program
def error_in_a_callback(effects):
    return sorted([3, 0, 1], key=lambda n: 1 / n)


@program
def error_lines(effects):
    values = [1, 2]
    return values[0] + values[1] + values[5]


@program
def attribute_error_says_where(effects):
    class Thing:
        colour = 1

    try:
        Thing().colr  # noqa: B018
    except AttributeError as error:
        return error.name, type(error.obj).__name__, str(error)
