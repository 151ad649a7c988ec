"""Objects: attributes, descriptors, operators, classes."""

import abc
import collections
import dataclasses
import enum
import functools

from registry import program


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
    effects.append(
        (one < two, one >= two, one == 1, one != two, two in [one, two], one in {one: 1})
    )
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
    return (
        f"{f} {f!r} {f!s:>5} {f:abc} {3.14159:{width}.2f} {'x'!a} {1=}",
        "%s" % f,
        str(f),
        repr(f),
    )
