"""Random programs over random state: whatever is changed, the next call is eager's.

Each program reads some of a small world. One thing of the world is changed at a time; a call of the
jitted program must then equal eager, be a hit if the program does not read what was changed, and
in any case be a hit the time after. SOUNDNESS_PROGRAMS=n runs n programs.
"""

# ruff: noqa: B008 # the values of defaults are meant to be made once
from __future__ import annotations

import builtins
import contextlib
import functools
import os
import random
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fulmen

PROGRAMS = int(os.environ.get("SOUNDNESS_PROGRAMS", "40"))

SOURCE = """
import builtins, collections, contextlib, dataclasses, enum, functools, operator, types, weakref
import torch
from torch import nn
from torch.nn import functional as F

number = 2.0
count = 3
text = "ab"
flag = True
nothing = None
numbers = [1.0, 2.0, 3.0]
nested = {"a": {"b": [1.0, 2.0]}, "c": (1.0, 2.0)}
members = {1, 2, 3}
ordered = collections.OrderedDict(p=1.0, q=2.0)
queue = collections.deque([1.0, 2.0])
missing = {}
data = bytearray(b"ab")
tensor = torch.ones(3)
other = torch.ones(3)
tensors = [torch.ones(3), torch.full((3,), 2.0)]


class Color(enum.Enum):
    RED = 1
    BLUE = 2


color = Color.RED


class Key:
    pass


key, second_key, third_key = Key(), Key(), Key()
by_key = {key: 1.0, second_key: 2.0}
keys = [key]


@dataclasses.dataclass
class Config:
    width: int = 3
    scale: float = 2.0
    names: tuple = ("a", "b")

    @property
    def double(self):
        return self.width * 2


config = Config()


class Base:
    rate = 1.5

    def method(self, x):
        return x * self.rate

    def inherited(self, x):
        return x + 1

    @classmethod
    def build(cls):
        return cls.rate

    @staticmethod
    def static():
        return 3.0


class Derived(Base):
    __slots__ = ()

    def inherited(self, x):
        return super().inherited(x) * 2


class Holder(Derived):
    def __init__(self):
        self.bias = 1.0

    def __getattr__(self, name):
        if name.startswith("made_"):
            return 4.0
        raise AttributeError(name)

    def __len__(self):
        return 2

    def __call__(self, x):
        return x + self.bias

    def __getitem__(self, i):
        return i + 1.0

    def __contains__(self, i):
        return i == 1

    def __add__(self, i):
        return i + 1.0

    def __enter__(self):
        return 2.0

    def __exit__(self, *args):
        return None

    def __eq__(self, value):
        return value == 1

    __hash__ = object.__hash__


class Twin(Derived):
    def __init__(self):
        self.bias = 5.0


class Slotted:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 2.0


class Empty:
    pass


holder, twin, slotted, empty = Holder(), Twin(), Slotted(), Empty()
reference = weakref.ref(twin)


def helper(x, scale=2.0, *, shift=1.0, options=[1.0]):
    return x * scale + shift + options[0]


def other_helper(x, scale=2.0, *, shift=1.0, options=[1.0]):
    return x - scale


bound = functools.partial(helper, scale=3.0)
getter = operator.attrgetter("scale")


def make_closure():
    cell = 2.0
    items = [1.0]

    def read(x):
        return x * cell + items[0]

    def write(value):
        nonlocal cell
        cell = value

    return read, write, items


closure, set_cell, cell_items = make_closure()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.0)
        self.register_buffer("mean", torch.ones(3))
        self.scale = 2.0

    def forward(self, x):
        return self.drop(self.linear(x)) * self.scale + self.mean


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.act = nn.ReLU()

    def forward(self, x):
        for block in self.blocks:
            x = self.act(block(x)) if self.training else block(x)
        return x


net = Net()


def with_holder(x):
    with holder as value:
        return x * value


def attempt(read, default):
    try:
        return read()
    except (AttributeError, KeyError, IndexError, NameError):
        return default
"""

# Expression → what it reads.
READS: dict[str, str] = {
    "x * number": "number",
    "x * count": "count",
    "x + len(text)": "text len",
    "x if flag else -x": "flag",
    "x if nothing is None else -x": "nothing",
    "x * numbers[1]": "numbers[1] numbers",
    "x * numbers[-1]": "numbers[-1] numbers-length numbers",
    "x * len(numbers)": "numbers-length len numbers",
    "x + sum(numbers)": "numbers[1] numbers[-1] numbers-length numbers sum",
    "x + (len(numbers) if numbers else 7)": "numbers-length len numbers",
    "x * nested['a']['b'][1]": "nested-b",
    "x * nested.get('z', 5.0)": "nested-z",
    "x + ('z' in nested)": "nested-z",
    "x + len(list(nested))": "nested-b nested-c nested-z len",
    "x + len(f'{nested}')": "nested-b nested-c nested-z len",
    "x + nested['c'][1]": "nested-c",
    "x + (3 in members)": "members",
    "x + len(members)": "members len",
    "x + (next(iter(ordered)) == 'p')": "ordered",
    "x + queue[0]": "queue",
    "x + len(queue)": "queue len",
    "x + attempt(lambda: missing['k'], 2.0)": "missing",
    "x + missing.get('k', 2.0)": "missing",
    "x + data[0]": "data",
    "x * tensor": "tensor-meta tensor",
    "x * tensor * other": "tensor-meta tensor other",
    "x + (tensor is other)": "tensor-meta tensor other",
    "x * getattr(tensor, 'note', 3.0)": "tensor-meta tensor note",
    "x + torch.stack(tensors).sum()": "tensors",
    "x + len(tensors)": "tensors len",
    "x + color.value": "color color-value",
    "x + (color is Color.RED)": "color",
    "x * by_key[key]": "key by_key",
    "x * by_key.get(third_key, 9.0)": "third_key by_key",
    "x + (key is second_key)": "key second_key",
    "x + (key == third_key)": "key third_key",
    "x + (third_key in keys)": "third_key key keys",
    "x * config.scale": "config.scale",
    "x * config.double": "config.width double",
    "x * getter(config)": "config.scale",
    "x + len(vars(config))": "config-keys config.scale config.width len",
    "x + len(config.names)": "config.names len",
    "x * holder.rate": "rate holder.rate holder-class",
    "holder.method(x)": "rate holder.rate method holder.method holder-class",
    "holder.inherited(x)": "inherited holder-class",
    "x * holder.build()": "rate build holder-class",
    "x * holder.static()": "static holder-class",
    "x * Holder.build()": "rate build",
    "x * holder.made_up": "getattr made_up holder-class",
    "x * attempt(lambda: holder.absent, 2.0)": "getattr absent holder-class",
    "x + len(holder)": "__len__ len holder-class",
    "holder(x)": "__call__ holder.bias holder-class",
    "x * holder[1]": "__getitem__ holder-class",
    "x + (1 in holder)": "__contains__ holder-class",
    "holder + x": "__add__ holder-class",
    "with_holder(x)": "__enter__ holder-class",
    "x + (holder == 1)": "__eq__ holder-class",
    "x if empty else -x": "empty-bool",
    "x + hasattr(empty, 'new')": "empty-new",
    "x + isinstance(holder, Holder)": "holder-class isinstance",
    "x * slotted.value": "slotted",
    "x * reference().bias": "twin.bias",
    "helper(x)": "helper helper-defaults helper-kwdefaults helper-options",
    "bound(x)": "bound helper helper-defaults helper-kwdefaults helper-options",
    "closure(x)": "cell cell_items",
    "net(x)": "net mean train hooks blocks scale weight bias requires_grad",
    "F.linear(x, net.blocks[0].linear.weight)": "weight requires_grad blocks",
    "x + net.blocks[1].mean": "mean blocks net",
    "x * net.blocks[0].scale": "scale blocks",
    "x + attempt(lambda: unknown_name, 3.0)": "unknown_name",
    "x + abs(-2)": "abs",
    "x + round(2.6)": "round",
}  # fmt: skip


class World:
    """A module of the state that programs read, and all ways to change one thing of it."""

    def __init__(self, cleanup: contextlib.ExitStack) -> None:
        self.module = types.ModuleType("fulmen_world")
        self.cleanup = cleanup
        sys.modules["fulmen_world"] = self.module  # dataclasses look there
        cleanup.callback(sys.modules.pop, "fulmen_world")
        exec(compile(SOURCE, "<world>", "exec"), self.module.__dict__)
        self.step = 0

    def new_number(self) -> float:
        self.step += 1
        return 10.0 + self.step

    def set_builtin(self, name: str, value: Any) -> None:
        old = getattr(builtins, name)
        setattr(builtins, name, value)
        self.cleanup.callback(setattr, builtins, name, old)

    def mutations(self) -> list[tuple[str, Callable[[], Any]]]:
        """Pairs of what changes, and the function that changes it."""
        m: Any = self.module
        n = self.new_number
        net = m.net
        block = net.blocks[1]
        linear = net.blocks[0].linear

        def put(target: Any, name: str, make: Callable[[], Any]) -> Callable[[], Any]:
            return lambda: setattr(target, name, make())

        def item(target: Any, key: Any, make: Callable[[], Any]) -> Callable[[], Any]:
            return lambda: target().__setitem__(key, make())

        def method(name: str, make: Callable[[float], Any]) -> Callable[[], Any]:
            return lambda: setattr(m.Holder, name, make(n()))

        return [
            ("number", put(m, "number", n)),
            ("number", put(m, "number", lambda: int(n()))),
            ("number", put(m, "number", lambda: torch.ones(3) * n())),
            ("count", put(m, "count", lambda: int(n()))),
            ("text", put(m, "text", lambda: "x" * int(n()))),
            ("flag", put(m, "flag", lambda: not m.flag)),
            ("nothing", put(m, "nothing", lambda: 1)),
            ("numbers[1]", item(lambda: m.numbers, 1, n)),
            ("numbers[-1] numbers-length", lambda: m.numbers.append(n())),
            ("numbers", put(m, "numbers", lambda: [n(), n()])),
            ("nested-b", lambda: m.nested["a"]["b"].__setitem__(1, n())),
            ("nested-z", lambda: m.nested.__setitem__("z", n())),
            ("nested-c", lambda: m.nested.__setitem__("c", (n(), n()))),
            ("members", lambda: m.members.symmetric_difference_update({3})),
            ("ordered", lambda: m.ordered.move_to_end(next(iter(m.ordered)))),
            ("queue", lambda: m.queue.appendleft(n())),
            ("missing", lambda: m.missing.__setitem__("k", n())),
            ("data", lambda: m.data.__setitem__(0, int(n()))),
            ("tensor", put(m, "tensor", lambda: torch.ones(3, dtype=torch.float64))),
            ("tensor", put(m, "tensor", lambda: torch.ones(1))),
            ("tensor", put(m, "tensor", lambda: torch.ones(3, requires_grad=True))),
            ("tensor-meta", lambda: setattr(m.tensor, "data", torch.ones(1, 3))),
            ("tensor-meta", lambda: m.tensor.requires_grad_(not m.tensor.requires_grad)),
            ("tensor other", put(m, "other", lambda: m.tensor)),
            ("tensor other", put(m, "other", lambda: torch.ones(3))),
            ("note", lambda: setattr(m.tensor, "note", n())),
            ("tensors", lambda: m.tensors.append(torch.ones(3))),
            ("tensors", lambda: m.tensors.__setitem__(0, torch.ones(3).double())),
            ("color", put(m, "color", lambda: m.Color.BLUE)),
            ("color-value", lambda: setattr(m.color, "_value_", int(n()))),
            ("key by_key", put(m, "key", lambda: m.second_key)),
            ("third_key key", put(m, "third_key", lambda: m.key)),
            ("third_key", put(m, "third_key", m.Key)),
            ("by_key", lambda: m.by_key.__setitem__(m.key, n())),
            ("keys key", lambda: m.keys.insert(0, m.third_key)),
            ("config.scale", lambda: setattr(m.config, "scale", n())),
            ("config.width", lambda: setattr(m.config, "width", int(n()))),
            ("config-keys", lambda: setattr(m.config, f"extra{int(n())}", 1)),
            ("config.names", lambda: setattr(m.config, "names", ("x",) * int(n()))),
            ("double", lambda: setattr(m.Config, "double", property(lambda s, v=n(): v))),
            ("rate", lambda: setattr(m.Base, "rate", n())),
            ("rate", lambda: setattr(m.Derived, "rate", n())),
            ("holder.rate", lambda: setattr(m.holder, "rate", n())),
            ("method", method("method", lambda v: lambda self, x: x * v)),
            (
                "holder.method",
                lambda: setattr(m.holder, "method", lambda x, v=n(): x - v),
            ),
            ("inherited", lambda: setattr(m.Base, "inherited", lambda s, x, v=n(): x + v)),
            ("build", method("build", lambda v: classmethod(lambda cls: v))),
            ("static", method("static", lambda v: staticmethod(lambda: v))),
            ("getattr", method("__getattr__", lambda v: lambda self, name: v)),
            ("made_up", lambda: setattr(m.holder, "made_up", n())),
            ("absent", lambda: setattr(m.holder, "absent", n())),
            ("__len__", method("__len__", lambda v: lambda self: int(v))),
            ("__call__", method("__call__", lambda v: lambda self, x: x + v)),
            ("__getitem__", method("__getitem__", lambda v: lambda self, i: v)),
            ("__contains__", method("__contains__", lambda v: lambda self, i: False)),
            ("__add__", method("__add__", lambda v: lambda self, i: i + v)),
            ("__enter__", method("__enter__", lambda v: lambda self: v)),
            ("__eq__", method("__eq__", lambda v: lambda self, other: False)),
            ("holder.bias", lambda: setattr(m.holder, "bias", n())),
            (
                "holder-class",
                lambda: setattr(
                    m.holder,
                    "__class__",
                    m.Twin if type(m.holder) is m.Holder else m.Holder,
                ),
            ),
            ("empty-bool", lambda: setattr(m.Empty, "__bool__", lambda s, v=n(): v % 2 == 0)),
            ("empty-new", lambda: setattr(m.empty, "new", n())),
            ("slotted", lambda: setattr(m.slotted, "value", n())),
            ("twin.bias", lambda: setattr(m.twin, "bias", n())),
            ("helper", lambda: setattr(m.helper, "__code__", m.other_helper.__code__)),
            ("helper", put(m, "helper", lambda: m.other_helper)),
            ("helper-defaults", lambda: setattr(m.helper, "__defaults__", (n(),))),
            (
                "helper-kwdefaults",
                lambda: m.helper.__kwdefaults__.__setitem__("shift", n()),
            ),
            (
                "helper-kwdefaults",
                lambda: setattr(m.helper, "__kwdefaults__", {"shift": n(), "options": [2.0]}),
            ),
            ("helper-options", lambda: m.helper.__kwdefaults__["options"].__setitem__(0, n())),
            ("bound", lambda: m.bound.keywords.__setitem__("scale", n())),
            ("bound", put(m, "bound", lambda: functools.partial(m.helper, scale=n()))),
            ("cell", lambda: m.set_cell(n())),
            ("cell_items", lambda: m.cell_items.__setitem__(0, n())),
            ("train", lambda: net.train(not net.training)),
            ("hooks", lambda: net.act.register_forward_hook(lambda mod, a, out, v=n(): out + v)),
            ("hooks", lambda: block.register_forward_pre_hook(lambda mod, a: (a[0] * 2,))),
            ("scale", lambda: setattr(net.blocks[0], "scale", n())),
            ("mean", lambda: setattr(block, "mean", torch.full((1, 3), n()))),
            ("net mean", lambda: block._buffers.__setitem__("mean", torch.ones(3).double())),
            ("weight", lambda: setattr(linear, "weight", nn.Parameter(torch.ones(3, 3)))),
            ("weight", lambda: setattr(linear.weight, "data", torch.ones(3, 3).t())),
            ("requires_grad", lambda: linear.weight.requires_grad_(False)),
            ("requires_grad", lambda: linear.weight.requires_grad_(True)),
            ("bias", lambda: setattr(linear, "bias", None)),
            ("net", lambda: setattr(block, "drop", nn.Identity())),
            ("net", lambda: setattr(net, "forward", lambda x, v=n(): x * v)),
            ("net", lambda: setattr(m.Block, "forward", lambda self, x, v=n(): x * v)),
            ("blocks", lambda: net.blocks.insert(0, m.Block())),
            ("blocks", lambda: setattr(net, "blocks", nn.ModuleList([m.Block(), m.Block()]))),
            ("unknown_name", put(m, "unknown_name", n)),
            ("abs", put(m, "abs", lambda: lambda value, v=n(): v)),
            ("abs", lambda: self.set_builtin("abs", lambda value, v=n(): v)),
            ("len", put(m, "len", lambda: lambda value, v=n(): v)),
            ("round", lambda: self.set_builtin("round", lambda value, v=n(): v)),
            (
                "__getattribute__ holder-class",
                method("__getattribute__", lambda v: lambda self, name: (lambda *a: v)),
            ),
            ("everything", lambda: torch.set_default_dtype(torch.float64)),
            ("everything", lambda: torch.use_deterministic_algorithms(True)),
            ("everything", lambda: torch.set_grad_enabled(not torch.is_grad_enabled())),
            ("", put(m, "unread", n)),
            ("", lambda: setattr(m.Base, "unread", n())),
            ("", lambda: setattr(net, "unread", n())),
            ("", lambda: setattr(builtins, "fulmen_unread", n())),
            ("", lambda: setattr(m.Holder, "__repr__", lambda self, v=n(): str(v))),
        ]  # fmt: skip


def outcome(fn: Callable[..., Any], x: torch.Tensor) -> Any:
    try:
        return fn(x)
    except Exception as error:
        return type(error)


def same(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        if isinstance(a, type) and isinstance(b, type):
            return issubclass(b, a)  # an error of ours is also what eager raises
        return type(a) is type(b) and bool(a == b)
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and a.requires_grad == b.requires_grad
        and torch.equal(a, b)
    )


def check_program(seed: int) -> None:
    rng = random.Random(seed)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(torch.set_default_dtype, torch.get_default_dtype())
        cleanup.callback(torch.use_deterministic_algorithms, False)
        cleanup.callback(torch.set_grad_enabled, True)
        cleanup.callback(lambda: builtins.__dict__.pop("fulmen_unread", None))
        torch.manual_seed(seed)
        world = World(cleanup)
        chosen = rng.sample(sorted(READS), rng.randint(1, 4))
        read = set(" ".join(READS[e] for e in chosen).split()) | {"everything"}
        lines = "\n".join(f"    x = {e}" for e in chosen)
        exec(f"def program(x):\n{lines}\n    return x\n", world.module.__dict__)
        program = world.module.program
        jitted = fulmen.jit(program)
        x = torch.linspace(-1, 1, 6).reshape(2, 3)
        history: list[str] = []

        def call() -> int:
            expected, got = outcome(program, x), outcome(jitted, x)
            assert same(expected, got), (
                f"seed {seed}\n{lines}\nafter {history}:\neager {expected}\njitted {got}\n"
                f"{fulmen.last_prologue(jitted)}"
            )
            stats = fulmen.stats(jitted)
            return stats.cache_misses + len(stats.splits)

        call()
        before = call()
        for tags, change in rng.sample(world.mutations(), 14):
            names = change.__code__.co_names + change.__code__.co_freevars
            history.append(f"{tags or 'nothing'} {names}")
            with torch.enable_grad() if "requires_grad" in tags else contextlib.nullcontext():
                try:
                    change()
                except (AttributeError, RuntimeError, TypeError, KeyError, IndexError):
                    continue  # what an earlier change made impossible
            after = call()
            if not read & set(tags.split()):
                assert after == before, (
                    f"seed {seed}\n{lines}\ncompiled again for {history[-1]}: "
                    f"{fulmen.stats(jitted).recompiles[-1:]}"
                )
            before = call()
            assert before == after, f"seed {seed}\n{lines}\nno hit after {history}"


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_programs(seed: int) -> None:
    check_program(seed)


def in_place_on_both(a: torch.Tensor, b: torch.Tensor, n: Any) -> Any:
    a.mul_(2)
    b.add_(1)
    return a + b, a is b


def questions(a: torch.Tensor, b: torch.Tensor, n: Any) -> Any:
    return (a.stride(), a.dtype, a is b, a.shape == b.shape, type(n), n == 1, a.requires_grad)


def arithmetic(a: torch.Tensor, b: torch.Tensor, n: Any) -> Any:
    return a * n + (b - a if a.shape == b.shape else b.sum())


def in_place_on_one(a: torch.Tensor, b: torch.Tensor, n: Any) -> Any:
    b.mul_(2)
    return a * n + b.sum()


@pytest.mark.parametrize("program", [in_place_on_both, questions, arithmetic, in_place_on_one])
@pytest.mark.parametrize("seed", range(max(1, PROGRAMS // 10)))
def test_random_arguments(program: Callable[..., Any], seed: int) -> None:
    """Tensors that share storage, are the same, or differ in what a program can see of them."""
    rng = random.Random(seed)
    jitted = fulmen.jit(program)

    def make(choices: random.Random) -> tuple[Any, ...]:
        base = torch.arange(12.0)
        pool = [
            base[:6].reshape(2, 3),
            base[:6].reshape(2, 3),
            base[6:].reshape(2, 3),
            base[3:9].reshape(2, 3),
            base[:6].reshape(3, 2).t(),
            torch.arange(6.0).reshape(2, 3),
            torch.arange(6).reshape(2, 3),
            torch.arange(6.0).double().reshape(2, 3),
            torch.ones(2, 3, requires_grad=True).clone(),
            nn.Parameter(torch.ones(2, 3), requires_grad=False),
            torch.ones(3),
        ]
        a = choices.choice(pool)
        b = a if choices.random() < 0.2 else choices.choice(pool)
        return a, b, choices.choice([1, 2, 1.0, True, 0.0, -0.0])

    def run(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            result = fn(*args)
        except Exception as error:
            result = type(error)
        return result, args

    for _ in range(25):
        state = rng.getstate()
        expected = run(program, make(rng))
        for _ in range(2):
            rng.setstate(state)
            got = run(jitted, make(rng))
            assert_same(expected, got)


def assert_same(expected: Any, got: Any) -> None:
    if isinstance(expected, tuple):
        assert len(expected) == len(got)
        for e, g in zip(expected, got, strict=True):
            assert_same(e, g)
    else:
        assert same(expected, got), (expected, got)
