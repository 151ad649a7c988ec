"""Lifetime: when objects die."""

import contextlib
import gc
import operator
import weakref

from control_flow import Point
from registry import program


class Tracked:
    pass


@program
def dies_in_time(effects):
    def consume(thing):
        ref = weakref.ref(thing)
        del thing
        return ref() is None

    thing = Tracked()
    ref = weakref.ref(thing)
    effects.append(consume(Tracked()))
    thing = None
    effects.append(ref() is None)

    def g():
        held = Tracked()
        effects.append(weakref.ref(held))
        yield

    gen = g()
    next(gen)
    gen.close()
    alive = effects.pop()() is not None
    return alive


@program
def finalizers(effects):
    class Final:
        def __del__(self):
            effects.append("finalized")

    def g():
        try:
            yield
        finally:
            effects.append("generator closed")

    Final()
    gen = g()
    next(gen)
    del gen
    cycle = Final()
    cycle.self = cycle
    del cycle
    gc.collect()
    return len(effects)


def soak(effects):
    """One of everything that allocates; runs ten thousand times without keeping memory."""
    total = sum(i * i for i in range(3))
    point = Point(1, 2)
    try:
        raise ValueError(point)
    except ValueError as error:
        total += error.args[0].x
    with contextlib.suppress(KeyError):
        {}["absent"]
    a, *rest = (operator.itemgetter(0)([x]) for x in (1, 2, 3))
    match point:
        case Point(x, y):
            total += x + y
    return f"{total} {a} {rest}", sorted(rest, key=lambda v: -v), (lambda *p, **k: (p, k))(1, b=2)
