"""Frames as Python sees them."""

import inspect
import sys

from registry import program


@program
def frames(effects):
    def inner():
        frame = sys._getframe()
        effects.append((frame.f_code.co_name, frame.f_lineno - frame.f_code.co_firstlineno))
        effects.append((frame.f_back.f_code.co_name, frame.f_back.f_locals["marker"]))
        effects.append([f.function for f in inspect.stack()[:2]])
        return frame

    marker = 7
    kept = inner()
    return kept.f_locals.keys() >= {"frame"}, marker, inspect.currentframe().f_code.co_name


@program
def traceback_frames(effects):
    def inner(secret):
        raise ValueError(secret)

    try:
        inner(42)
    except ValueError as error:
        trace = error.__traceback__
        names = []
        while trace:
            names.append((trace.tb_frame.f_code.co_name, trace.tb_lineno))
            last, trace = trace, trace.tb_next
        effects.append(names[-2:])
        return last.tb_frame.f_locals, last.tb_frame.f_back.f_code.co_name


@program
def under_a_trace_function(effects):
    def traced():
        x = 1
        return x

    def tracer(frame, event, arg):
        if frame.f_code is traced.__code__:
            effects.append((event, frame.f_lineno - traced.__code__.co_firstlineno))
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        return traced()
    finally:
        sys.settrace(before)


@program
def warns_with_the_right_line(effects):
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("w", stacklevel=1)
    return caught[0].lineno - sys._getframe().f_code.co_firstlineno
