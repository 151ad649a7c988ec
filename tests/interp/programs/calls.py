"""Calls: arguments, wrong calls, callables, callbacks from C."""

import collections
import functools
import itertools

from registry import program


def everything(a, b=2, /, c=3, *rest, d, e=5, **more):
    return a, b, c, rest, d, e, more


@program
def arguments(effects):
    effects.append(everything(1, d=4))
    effects.append(everything(1, 2, 3, 4, 5, d=6, e=7, f=8))
    effects.append(everything(*[1, 2], **{"c": 3, "d": 4, "x": 5}))
    effects.append(everything(1, *(2, 3), *[4], d=0, **{"y": 1}, **{"z": 2}))
    return everything(a := 1, d=a)


def wrong_call(call):
    def wrong(effects):
        return call()

    wrong.__name__ = wrong.__qualname__ = call.__name__
    return program(wrong)


def misses_arguments():
    everything()


def misses_keyword_only():
    everything(1)


def positional_by_keyword():
    (lambda a, /: a)(a=1)


def too_many_arguments():
    (lambda a, b=1: a)(1, 2, 3)


def twice_the_same():
    (lambda a: a)(1, **{"a": 2})


def unknown_keyword():
    (lambda a: a)(1, b=2)


def star_of_no_iterable():
    everything(*1)


def double_star_of_no_mapping():
    everything(**1)


def double_star_twice():
    everything(1, **{"d": 1}, **{"d": 2})


def no_string_keyword():
    everything(1, **{1: 2})


def calls_a_number():
    (1)()


for each in (
    misses_arguments, misses_keyword_only, positional_by_keyword, too_many_arguments,
    twice_the_same, unknown_keyword, star_of_no_iterable, double_star_of_no_mapping,
    double_star_twice, no_string_keyword, calls_a_number,
):  # fmt: skip
    wrong_call(each)


@program
def partials(effects):
    add = functools.partial(everything, 1, d=4)
    effects.append(add(2, x=1))

    class Owner:
        method = functools.partialmethod(lambda self, a, b: (a, b), 1)

    return Owner().method(2), functools.reduce(lambda a, b: a * b, range(1, 6))


@program
def callables(effects):
    class Adder:
        def __init__(self, n):
            self.n = n

        def __call__(self, m):
            return self.n + m

    class Meta(type):
        def __call__(cls, *args):
            effects.append(args)
            return super().__call__(*args)

    class Made(metaclass=Meta):
        def __new__(cls, value):
            return object.__new__(cls) if value else "not an instance"

        def __init__(self, value):
            effects.append(value)

    return Adder(1)(2), type(Made(1)).__name__, Made(0), list(map(Adder(5), [1, 2]))


@program
def callbacks_from_c(effects):
    words = ["pear", "fig", "apple"]
    words.sort(key=lambda w: effects.append(w) or len(w))
    table = collections.defaultdict(lambda: effects.append("missing") or [])
    table["a"].append(1)
    return (
        words,
        sorted(words, key=functools.cmp_to_key(lambda a, b: (a > b) - (a < b))),
        max(words, key=len),
        min(words, key=lambda w: w[-1]),
        list(filter(lambda w: "p" in w, words)),
        any(w == "fig" for w in words),
        all(w for w in words),
        sum(len(w) for w in words),
        dict(table),
        list(itertools.takewhile(lambda w: w < "g", sorted(words))),
        [(k, list(g)) for k, g in itertools.groupby(words, key=len)],
        list(itertools.accumulate([1, 2, 3], lambda a, b: a * b)),
    )
