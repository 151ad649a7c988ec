"""Calls a function natively and on the interpreter, and compares everything that can be seen."""

import contextlib
import io
import traceback


def observe(call, function):
    """What a call of `function` shows: value, exception with its traceback, output, effects."""
    effects = []
    output = io.StringIO()
    result = {"effects": effects}
    with contextlib.redirect_stdout(output):
        try:
            result["value"] = shown(call(function, effects))
        except BaseException as error:
            result["error"] = describe(error, function.__code__.co_filename)
    result["output"] = output.getvalue()
    effects[:] = [shown(e) for e in effects]
    return result


def shown(value):
    return (type(value).__qualname__, repr(value))


def describe(error, filename, depth=0):
    """Type, message, traceback lines within the programs, and the chain of causes and contexts."""
    if error is None or depth > 6:
        return None
    lines = [
        (frame.name, frame.lineno, frame.colno, frame.end_colno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == filename
    ]
    return {
        "type": type(error).__qualname__,
        "args": [repr(a) for a in error.args],
        "lines": lines,
        "cause": describe(error.__cause__, filename, depth + 1),
        "context": describe(error.__context__, filename, depth + 1),
        "suppressed": error.__suppress_context__,
        "members": [describe(e, filename, depth + 1) for e in getattr(error, "exceptions", ())],
    }


def compare(interpret, function):
    """The differences, as text; empty when there are none."""
    native = observe(lambda f, *args: f(*args), function)
    interpreted = observe(interpret, function)
    return "\n".join(
        f"{key}: natively {native.get(key)!r}\n"
        f"{' ' * len(key)}  interpreted {interpreted.get(key)!r}"
        for key in sorted(native.keys() | interpreted.keys())
        if native.get(key) != interpreted.get(key)
    )
