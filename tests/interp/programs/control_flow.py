"""Control flow."""

import dataclasses
import sys

from registry import program


@program
def branches_and_loops(effects):
    for i in range(10):
        if i == 2:
            continue
        if i > 6 and not i % 2:
            break
        effects.append(i)
    else:
        effects.append("never")
    while effects:
        if len(effects) < 3:
            break
        effects.pop()
    else:
        effects.append("no")
    return 1 < 2 < 3 != 4 >= 4, (y := 5) and y or 7


@program
def loop_leaves_a_try(effects):
    for i in range(3):
        try:
            if i == 1:
                continue
            if i == 2:
                break
        finally:
            effects.append(i)
    return [i for i in range(3) if (lambda j=i: j)() != 1]


@program
def finally_returns(effects):
    try:
        raise ValueError("lost")
    finally:
        effects.append(type(sys.exc_info()[1]).__name__)
        return "kept"  # noqa: B012


@dataclasses.dataclass
class Point:
    x: int
    y: int


@program
def patterns(effects):
    def kind(value):
        match value:
            case 0 | 1:
                return "small"
            case int(n) if n > 100:
                return f"large {n}"
            case [a, *rest]:
                return a, rest
            case {"k": v, **others}:
                return v, others
            case Point(x=0, y=b):
                return "axis", b
            case Point(a, b):
                return a, b
            case str() as s:
                return s
            case None:
                return "none"
            case _:
                return "other"

    samples = (0, 101, 50, [1, 2, 3], (), {"k": 1, "z": 2}, {}, Point(0, 2), Point(1, 2), "t", None)
    return [kind(s) for s in samples]


@program
def pattern_errors(effects):
    class Bad:
        __match_args__ = ("a", "a")
        a = 1

    match Bad():
        case Bad(1, 1):
            return 1


@program
def recursion_without_end(effects):
    def again(n):
        return again(n + 1) + 1

    try:
        again(0)
    except RecursionError as error:
        return str(error)
