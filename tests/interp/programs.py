"""Programs that have to do the same natively and interpreted.

Each is a function of one list, to which it appends what it wants compared besides its value, its
exception and its output. Groups: control flow, calls, functions, exceptions, objects, containers,
iterators, frames, lifetime.
"""

import abc
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import gc
import inspect
import itertools
import operator
import sys
import types
import weakref

MAY_RUN_NATIVELY = {"recursion_without_end", "under_a_trace_function"}


def programs():
    return [f for name, f in sorted(globals().items()) if getattr(f, "is_program", False)]


def program(function):
    function.is_program = True
    return function


# Control flow.


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


# Calls.


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
    globals()["case_" + each.__name__] = wrong_call(each)


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


# Functions.


@program
def closures(effects):
    count = 0

    def step(by=1, *, kw=None):
        nonlocal count
        count += by
        return count

    def make(n):
        return [lambda: (n, i) for i in range(2)]

    step()
    step(2)
    effects.append([f() for f in make(7)])
    del step
    try:
        step()
    except NameError as error:
        return count, str(error)


@program
def unbound_cell(effects):
    def read():
        return later

    try:
        read()
    except NameError as error:
        effects.append(str(error))
    later = 1
    return read()


@program
def annotations_and_defaults(effects):
    def f(a: int, b: "str" = "x", *, c: list = [1]) -> float:  # noqa: B006
        """Doc."""

    return f.__annotations__, f.__defaults__, f.__kwdefaults__, f.__doc__, f.__qualname__


@program
def namespaces(effects):
    x = 1
    effects.append(sorted(locals()))
    effects.append("programs" in globals())
    space = {"x": 5}
    exec("y = x + 1\ndef g(): return x * 2\nz = g()", space)
    effects.append((space["y"], space["z"]))
    return eval("x + 1"), eval("x + k", {"x": 2}, {"k": 3}), sorted(vars()), sorted(dir())[:2]


@program
def exec_raises(effects):
    exec("a = 1\nb = a / 0\n", {})


@program
def syntax_error(effects):
    try:
        eval("1 +")
    except SyntaxError as error:
        return error.msg, error.lineno, error.offset


@program
def imports(effects):
    import collections.abc as cabc
    from math import floor as f
    from os import path

    try:
        from math import nothing_of_this_name  # noqa: F401
    except ImportError as error:
        effects.append(str(error).split("(")[0])
    space = {}
    exec("from math import *", space)
    return cabc.Mapping.__name__, f(1.5), path.basename("/a/b"), "sqrt" in space


# Exceptions.


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
        raise LookupError(
            "at the bottom"
        )


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
    return (
        values[0]
        + values[1]
        + values[5]
    )


@program
def attribute_error_says_where(effects):
    class Thing:
        colour = 1

    try:
        Thing().colr  # noqa: B018
    except AttributeError as error:
        return error.name, type(error.obj).__name__, str(error)


# Objects.


@program
def attribute_hooks(effects):
    class Hooked:
        def __getattr__(self, name):
            if name.startswith("no"):
                raise AttributeError(name)
            return f"made {name}"

        def __setattr__(self, name, value):
            effects.append((name, value))
            object.__setattr__(self, name, value)

        def __delattr__(self, name):
            effects.append(f"del {name}")
            super().__delattr__(name)

    class Reader:
        def __getattribute__(self, name):
            effects.append(name)
            return super().__getattribute__(name)

        value = 3

    hooked = Hooked()
    hooked.a = 1
    del hooked.a
    return (
        hooked.b,
        hasattr(hooked, "nothing"),
        getattr(hooked, "nothing", 5),
        Reader().value,
        getattr(Reader(), "absent", None),
    )


@program
def descriptors(effects):
    class Field:
        def __set_name__(self, owner, name):
            effects.append((owner.__name__, name))
            self.name = "_" + name

        def __get__(self, instance, owner):
            return self if instance is None else instance.__dict__.get(self.name, "unset")

        def __set__(self, instance, value):
            instance.__dict__[self.name] = value * 2

        def __delete__(self, instance):
            del instance.__dict__[self.name]

    class Owner:
        field = Field()

        @property
        def prop(self):
            return self.field

        @prop.setter
        def prop(self, value):
            self.field = value

        @prop.deleter
        def prop(self):
            del self.field

        @classmethod
        def make(cls):
            return cls()

        @staticmethod
        def plain(a):
            return a

        @functools.cached_property
        def once(self):
            effects.append("computed")
            return 9

    owner = Owner.make()
    owner.prop = 4
    effects.append(owner.prop)
    del owner.prop
    return owner.field, Owner.plain(3), owner.once, owner.once, isinstance(Owner.field, Field)


@program
def property_raises(effects):
    class Owner:
        @property
        def broken(self):
            raise AttributeError("inside")

        def __getattr__(self, name):
            return f"fallback {name}"

    class Plain:
        @property
        def read_only(self):
            return self.missing

    effects.append(Owner().broken)
    try:
        Plain().read_only = 1
    except AttributeError as error:
        effects.append(str(error))
    return Plain().read_only


@program
def supers(effects):
    class A:
        def __init__(self):
            effects.append("A")

        @classmethod
        def name(cls):
            return ["A", cls.__name__]

        @property
        def p(self):
            return 1

    class B(A):
        def __init__(self):
            super().__init__()
            effects.append("B")

        @classmethod
        def name(cls):
            return [*super().name(), "B"]

        @property
        def p(self):
            return super().p + 1

    class C(A):
        def __init__(self):
            super(C, self).__init__()
            effects.append("C")

    class D(B, C):
        pass

    return D.name(), D().p, [c.__name__ for c in D.__mro__], super(B, D()).p


@program
def operators(effects):
    class Number:
        def __init__(self, n):
            self.n = n

        def __add__(self, other):
            return ("add", self.n, getattr(other, "n", other))

        def __radd__(self, other):
            return ("radd", other, self.n)

        def __iadd__(self, other):
            self.n += 100
            return self

        def __sub__(self, other):
            return NotImplemented

        def __neg__(self):
            return -self.n

        def __pow__(self, other, mod=None):
            return ("pow", other, mod)

    class Special(Number):
        def __radd__(self, other):
            return ("special", self.n)

    a = b = Number(1)
    a += 5
    effects.append((a is b, a.n, a + 1, 1 + a, a + Special(3), Number(2) + Number(3), -a, a**2))
    items = [1]
    items += (2, 3)
    items *= 2
    effects.append((items, "ab" * 2, 2 * (1,), 7 // 2, -7 % 3, 1 @ Matrix(), 5 & 6 | 8 ^ 1))
    return Number(1) - 2


class Matrix:
    def __rmatmul__(self, other):
        return ("matmul", other)


@program
def comparisons(effects):
    @functools.total_ordering
    class Version:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            effects.append("eq")
            return self.n == other.n if isinstance(other, Version) else NotImplemented

        def __lt__(self, other):
            return self.n < other.n

        def __hash__(self):
            return hash(self.n)

    one, two = Version(1), Version(2)
    effects.append((one < two, one >= two, one == 1, one != two, two in [one, two], one in {one: 1}))
    return one < "text"


@program
def truth_and_length(effects):
    class Sized:
        def __init__(self, n):
            self.n = n

        def __len__(self):
            effects.append("len")
            return self.n

    class Liar:
        def __bool__(self):
            return 1

    effects.append((bool(Sized(0)), not Sized(1), 1 if Sized(2) else 2, len(Sized(3))))
    try:
        len(Sized(-1))
    except ValueError as error:
        effects.append(str(error))
    if Liar():
        return 1


@program
def classes(effects):
    class Meta(type):
        @classmethod
        def __prepare__(mcs, name, bases, **kwargs):
            effects.append((name, kwargs))
            return {"prepared": True}

        def __new__(mcs, name, bases, space, **kwargs):
            return super().__new__(mcs, name, bases, space)

        def __init__(cls, name, bases, space, **kwargs):
            super().__init__(name, bases, space)

        def __instancecheck__(cls, instance):
            return instance == "friend" or super().__instancecheck__(instance)

    class Base(metaclass=Meta, option=1):
        y: int = 3
        squares = [i * i for i in range(3)]

        def __init_subclass__(cls, tag=None, **kwargs):
            effects.append((cls.__name__, tag))

    class Derived(Base, tag="t"):
        def who(self):
            return __class__.__name__

        for _name in ("p", "q"):
            locals()[_name] = _name

    return (
        Derived().who(), Derived.prepared, Derived.p, isinstance("friend", Derived),
        Base.__annotations__, Base.squares, type(Derived).__name__,
    )  # fmt: skip


@program
def metaclass_conflict(effects):
    class A(type):
        pass

    class B(type):
        pass

    class First(metaclass=A):
        pass

    class Second(First, metaclass=B):
        pass


@program
def standard_classes(effects):
    class Colour(enum.Enum):
        RED = 1
        GREEN = enum.auto()

        @property
        def lower(self):
            return self.name.lower()

    Pair = collections.namedtuple("Pair", "a b", defaults=[2])

    @dataclasses.dataclass(frozen=True, order=True)
    class Item:
        name: str
        tags: list = dataclasses.field(default_factory=list, compare=False)

        def __post_init__(self):
            effects.append(self.name)

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...

    effects.append((Colour(2).lower, [c.name for c in Colour], Pair(1)._replace(a=3), Item("x")))
    try:
        Item("y").name = "z"
    except dataclasses.FrozenInstanceError as error:
        effects.append(str(error))
    try:
        Shape()
    except TypeError:
        effects.append("abstract")
    return Item("a") < Item("b"), isinstance([], collections.abc.Sequence)


@program
def slots(effects):
    class Slotted:
        __slots__ = ("a", "__dict__")

    class Bare:
        __slots__ = ("a",)

    thing = Slotted()
    thing.a, thing.b = 1, 2
    effects.append((thing.a, thing.__dict__))
    Bare().b = 1


@program
def formatting(effects):
    class Fancy:
        def __format__(self, spec):
            return f"<{spec}>"

        def __repr__(self):
            return "fancy"

        def __str__(self):
            return "str"

    f = Fancy()
    width = 6
    return f"{f} {f!r} {f!s:>5} {f:abc} {3.14159:{width}.2f} {'x'!a} {1=}", "%s" % f, str(f), repr(f)


# Containers.


@program
def dictionaries(effects):
    d = {"a": 1, **{"b": 2}, "c": 3}
    d |= {"d": 4}
    d.update(e=5)
    d.setdefault("f", []).append(6)
    del d["a"]

    class Default(dict):
        def __missing__(self, key):
            effects.append(key)
            return len(key)

    effects.append((d, list(reversed(d)), d.pop("zz", None), Default()["four"]))
    return {k: v for k, v in d.items() if k != "b"}, d.keys() & {"c", "d"}, d["nothing"]


@program
def sequences(effects):
    items = list(range(10))
    items[2:4] = "abc"
    del items[0], items[-1:]
    first, *middle, last = items
    (a, b), c = [[1, 2], 3]
    effects.append((items[1:7:2], items[::-1][0], first, middle, last, a, b, c))
    effects.append(((1, *[2, 3], *"ab"), [*range(2), *{4}], {*[1, 2], 3}))

    class Get:
        def __getitem__(self, key):
            return key

        def __setitem__(self, key, value):
            effects.append((key, value))

        def __delitem__(self, key):
            effects.append(("del", key))

    get = Get()
    get[1:2, ...] = 3
    del get[5]
    return get[1:2], get[::2, None], list[int], items[99]


def unpack_case(statement):
    def unpacks(effects):
        exec(statement, {"effects": effects})

    unpacks.__name__ = "unpack_" + "".join(c if c.isalnum() else "_" for c in statement)
    globals()[unpacks.__name__] = program(unpacks)


for each in ("a, b = 1", "a, b = [1]", "a, b = iter('xyz')", "a, *b, c = (1,)", "a, b = {}"):
    unpack_case(each)


@program
def changed_while_iterated(effects):
    d = {1: 1, 2: 2}
    for key in d:
        d[key + 10] = 0


# Iterators.


@program
def generators(effects):
    def inner():
        try:
            got = yield 1
            effects.append(got)
            yield 2
        except ValueError as error:
            effects.append(repr(error))
            yield "caught"
        finally:
            effects.append("inner done")
        return "result"

    def outer():
        value = yield from inner()
        effects.append(value)
        yield value

    g = outer()
    effects.append((next(g), g.send("sent"), g.throw(ValueError("thrown")), next(g), next(g, "end")))
    h = outer()
    next(h)
    h.close()
    effects.append((inspect.getgeneratorstate(h), g.gi_frame is None, type(h).__name__))
    with contextlib.suppress(StopIteration):
        g.send(None)
    return list(zip(outer(), range(5))), sum(x * x for x in range(4))


@program
def generator_state(effects):
    def g():
        x = 1
        effects.append((gen.gi_running, gen.gi_frame.f_locals["x"]))
        yield x

    gen = g()
    effects.append((inspect.isgenerator(gen), isinstance(gen, types.GeneratorType), gen.gi_code is g.__code__))
    next(gen)
    effects.append((gen.gi_frame.f_lineno - g.__code__.co_firstlineno, gen.gi_frame.f_locals["x"]))
    try:
        gen.send(1)
    except StopIteration:
        pass
    gen = g()
    gen.send("too early")


@program
def generator_calls_itself(effects):
    def g():
        next(gen)
        yield

    gen = g()
    next(gen)


@program
def stop_iteration_inside(effects):
    def g():
        yield 1
        raise StopIteration("inside")

    return list(g())


@program
def generator_ignores_close(effects):
    def g():
        for _ in range(2):
            try:
                yield
            except GeneratorExit:
                effects.append("no")

    gen = g()
    next(gen)
    gen.close()


@program
def iterator_classes(effects):
    class Count:
        def __init__(self, n):
            self.n = n

        def __iter__(self):
            return self

        def __next__(self):
            if self.n == 0:
                raise StopIteration
            self.n -= 1
            return self.n

    class Old:
        def __getitem__(self, i):
            if i > 2:
                raise IndexError
            return i

    effects.append((list(Count(3)), [*Old()], tuple(Count(2)), set(Count(2)), 1 in Count(3), 7 in Old()))
    effects.append((list(iter(Count(5).__next__, 1)), list(enumerate(Count(2), 1)), max(Count(4))))
    effects.append([type(x).__name__ for x in (map(str, []), zip(), filter(None, []), iter(Old()))])
    for _ in 5:
        pass


@program
def strict_zip(effects):
    return list(zip((x for x in "ab"), (x for x in "abc"), strict=True))


@program
def coroutines(effects):
    class Later:
        def __await__(self):
            effects.append("awaited")
            yield
            return 5

    class Manager:
        async def __aenter__(self):
            return await Later()

        async def __aexit__(self, *args):
            effects.append(args[0] and args[0].__name__)
            return True

    async def numbers():
        for i in range(3):
            yield i
            await asyncio.sleep(0)

    async def main():
        async with Manager() as value:
            effects.append(value)
            raise KeyError
        effects.append([i async for i in numbers() if i])
        async for i in numbers():
            effects.append(i)
            if i:
                break
        results = await asyncio.gather(asyncio.sleep(0, 1), Manager().__aenter__())
        try:
            await asyncio.wait_for(asyncio.sleep(10), 0.001)
        except TimeoutError:
            effects.append("timeout")
        return results

    return asyncio.run(main())


@program
def awaits_nothing(effects):
    async def main():
        await 1

    main().send(None)


@program
def coroutine_twice(effects):
    async def main():
        return 1

    c = main()
    effects.append((inspect.iscoroutine(c), c.cr_code.co_name))
    with contextlib.suppress(StopIteration):
        c.send(None)
    c.send(None)


# Frames.


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


# Lifetime.


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
