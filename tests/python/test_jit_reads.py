"""What a jitted program read decides when it is compiled again, and nothing else does."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest
import torch

import fulmen

X = torch.arange(6.0).reshape(2, 3)
GLOBAL = 2.0
UNREAD = 1.0
TABLE = {"a": 1.0, "b": [2.0, 3.0]}


def minus_one(x: torch.Tensor) -> torch.Tensor:
    return x - 1


class Mode(enum.Enum):
    A = 1
    B = 2


class Holder:
    def __init__(self) -> None:
        self.scale = 2.0
        self.items = [1.0, 2.0]
        self.table = {"k": 3.0}
        self.pair = (1.0, 4.0)
        self.members = {1, 2}
        self.child: Any = None
        self.mode = Mode.A
        self.dtype = torch.float64
        self.function = lambda x: x + 1
        self.unread = 1.0


def misses(jitted: Any) -> int:
    return fulmen.stats(jitted).cache_misses


def check(program: Any, change: Any, args: tuple[Any, ...] = (X,)) -> None:
    """`change` makes the program compile again, once, and both results are eager's."""
    jitted = fulmen.jit(program)
    for _ in range(2):
        torch.testing.assert_close(jitted(*args), program(*args), rtol=0, atol=0)
    assert misses(jitted) == 1
    change()
    for _ in range(2):
        torch.testing.assert_close(jitted(*args), program(*args), rtol=0, atol=0)
    assert misses(jitted) == 2, fulmen.last_prologue(jitted)
    assert len(fulmen.stats(jitted).recompiles) == 1
    assert fulmen.stats(jitted).splits == {}


def set_attr(target: Any, name: str, value: Any) -> Any:
    return lambda: setattr(target, name, value)


def _cases() -> list[Any]:
    def case(read: Any, change: Any, name: str) -> Any:
        h = Holder()
        return pytest.param(lambda x: read(x, h), lambda: change(h), id=name)

    return [
        case(lambda x, h: x * h.scale, lambda h: setattr(h, "scale", 3.0), "attribute"),
        case(lambda x, h: x * h.scale, lambda h: setattr(h, "scale", 2), "type of attribute"),
        case(lambda x, h: x * h.items[0], lambda h: h.items.__setitem__(0, 5.0), "list item"),
        case(lambda x, h: x * h.items[-1], lambda h: h.items.append(7.0), "last list item"),
        case(lambda x, h: x * len(h.items), lambda h: h.items.append(1.0), "length"),
        case(lambda x, h: sum((x * i for i in h.items), x), lambda h: h.items.pop(), "iteration"),
        case(lambda x, h: x * h.table["k"], lambda h: h.table.update(k=4.0), "dict item"),
        case(lambda x, h: x * h.table.get("z", 1.0), lambda h: h.table.update(z=4.0), "dict.get"),
        case(lambda x, h: x + ("z" in h.table), lambda h: h.table.update(z=4.0), "in a dict"),
        case(lambda x, h: x + len(list(h.table)), lambda h: h.table.update(z=4.0), "dict keys"),
        case(lambda x, h: x + sum(h.table.values()), lambda h: h.table.update(k=9.0), "values"),
        case(lambda x, h: x * h.pair[1], lambda h: setattr(h, "pair", (1.0, 5.0)), "tuple"),
        case(lambda x, h: x + (3 in h.members), lambda h: h.members.add(3), "set"),
        case(lambda x, h: x + bool(h.members), lambda h: h.members.clear(), "truth of a set"),
        case(lambda x, h: x if h.child is None else -x, lambda h: setattr(h, "child", 1), "None"),
        case(lambda x, h: x + hasattr(h, "new"), lambda h: setattr(h, "new", 1), "hasattr"),
        case(lambda x, h: x * getattr(h, "new", 1.0), lambda h: setattr(h, "new", 3.0), "getattr"),
        case(lambda x, h: x + (h.mode is Mode.A), lambda h: setattr(h, "mode", Mode.B), "enum"),
        case(lambda x, h: x.to(h.dtype), lambda h: setattr(h, "dtype", torch.float16), "dtype"),
        case(lambda x, h: h.function(x), lambda h: setattr(h, "function", minus_one), "function"),
        case(
            lambda x, h: x + isinstance(h.child, Holder),
            lambda h: setattr(h, "child", Holder()),
            "type",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("program", "change"), _cases())
def test_what_was_read_is_guarded(program: Any, change: Any) -> None:
    check(program, change)


def test_a_global() -> None:
    def change() -> None:
        global GLOBAL
        GLOBAL += 1.0

    check(lambda x: x * GLOBAL, change)


def test_a_container_behind_a_global() -> None:
    check(lambda x: x * TABLE["b"][1], lambda: TABLE["b"].__setitem__(1, TABLE["b"][1] + 1))  # type: ignore[index]


def test_a_closure() -> None:
    factor = 2.0

    def program(x: torch.Tensor) -> torch.Tensor:
        return x * factor

    def change() -> None:
        nonlocal factor
        factor = 5.0

    check(program, change)


def test_a_class_attribute_and_a_method() -> None:
    class Base:
        scale = 2.0

        def apply(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    obj = Base()
    check(lambda x: obj.apply(x), lambda: setattr(Base, "scale", 3.0))
    check(lambda x: obj.apply(x), lambda: setattr(obj, "scale", 4.0))
    check(lambda x: obj.apply(x), lambda: setattr(Base, "apply", lambda self, x: x + 100))


def test_the_code_and_the_defaults_of_a_function() -> None:
    def inner(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return x * scale

    def other(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return x - scale

    check(lambda x: inner(x), lambda: setattr(inner, "__defaults__", (3.0,)))
    check(lambda x: inner(x), lambda: setattr(inner, "__code__", other.__code__))


def test_properties_slots_and_dataclasses() -> None:
    class Slotted:
        __slots__ = ("value",)

    @dataclasses.dataclass
    class Config:
        width: int = 3

        @property
        def double(self) -> int:
            return self.width * 2

    slotted, config = Slotted(), Config()
    slotted.value = 2.0
    check(lambda x: x * slotted.value, lambda: setattr(slotted, "value", 3.0))
    check(lambda x: x * config.double, lambda: setattr(config, "width", 4))


def test_what_was_not_read_causes_no_recompilation() -> None:
    h = Holder()

    def program(x: torch.Tensor, unused: int = 0) -> torch.Tensor:
        return x * h.scale

    jitted = fulmen.jit(program)
    jitted(X)
    global UNREAD
    UNREAD += 1
    h.unread = 5.0
    h.items.append(1.0)
    h.new = 1.0  # type: ignore[attr-defined]
    jitted(X)
    jitted(X + 1)
    assert misses(jitted) == 1


def test_arguments() -> None:
    def program(x: torch.Tensor, n: int, options: dict[str, Any], names: list[str]) -> Any:
        return x * n + options["bias"] + len(names)

    jitted = fulmen.jit(program)
    calls: list[tuple[Any, ...]] = [
        (X, 2, {"bias": 1.0}, ["a"]),
        (X, 3, {"bias": 1.0}, ["a"]),
        (X, 3, {"bias": X}, ["a"]),
        (X, 3, {"bias": X}, ["a", "b"]),
    ]
    for _ in range(2):
        for args in calls:
            torch.testing.assert_close(jitted(*args), program(*args), rtol=0, atol=0)
    assert misses(jitted) == len(calls)


def test_modules() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.ReLU())
    jitted = fulmen.jit(net)
    seen = []
    changes: list[Any] = [
        lambda: None,
        lambda: net.eval(),
        lambda: net[0].weight.requires_grad_(False),
        lambda: setattr(net[0], "bias", None),
        lambda: net[2].register_forward_hook(lambda m, args, out: out + 1),
        lambda: net.append(torch.nn.Tanh()),
        lambda: net.double(),
    ]
    for change in changes:
        change()
        x = X.to(net[0].weight.dtype)
        for _ in range(2):
            torch.manual_seed(0)
            expected = net(x)
            torch.manual_seed(0)
            torch.testing.assert_close(jitted(x), expected, rtol=0, atol=0)
        seen.append(misses(jitted))
    assert seen == list(range(1, len(changes) + 1))


def test_in_place_changes_of_parameters_cause_no_recompilation() -> None:
    net = torch.nn.Linear(3, 3)
    jitted = fulmen.jit(net)
    for _ in range(3):
        torch.testing.assert_close(jitted(X), net(X), rtol=0, atol=0)
        with torch.no_grad():
            net.weight.mul_(2)
        net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()})
    assert misses(jitted) == 1


def test_the_state_of_pytorch() -> None:
    jitted = fulmen.jit(lambda x: x @ x.T + torch.ones(2, 2))
    x = X.clone().requires_grad_()
    assert jitted(x).requires_grad
    with torch.no_grad():
        assert not jitted(x).requires_grad
    torch.set_default_dtype(torch.float64)
    try:
        assert jitted(x.detach()).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert jitted(x.detach()).dtype == torch.float32


def test_questions_about_metadata() -> None:
    def program(x: torch.Tensor) -> Any:
        return (
            x + torch.is_floating_point(x), torch.is_floating_point(x), x.is_floating_point(),
            torch.is_complex(x), x.size(0), x.stride(), x.numel(), torch.numel(x), x.dim(),
            len(x), x.element_size(), x.is_contiguous(), torch.is_tensor(x),
            isinstance(x, torch.nn.Parameter), type(x) is torch.Tensor, x.device.type,
            torch.result_type(x, 1.0), torch.can_cast(x.dtype, torch.int64),
        )  # fmt: skip

    for x in (X, X.to(torch.int64), X.double().t(), X[:0]):
        jitted = fulmen.jit(program)
        expected = program(x)
        got = jitted(x)
        torch.testing.assert_close(got[0], expected[0], rtol=0, atol=0)
        assert got[1:] == expected[1:]
        assert fulmen.stats(jitted).splits == {}


def test_layers_reached_by_builtin_iterators() -> None:
    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = 2.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    layers = torch.nn.ModuleList([Scale(), Scale()])

    def enumerated(x: torch.Tensor) -> torch.Tensor:
        for _, layer in enumerate(layers):
            x = layer(x)
        return x

    programs = [
        enumerated,
        lambda x: sum(layer(x) for layer in layers),
        lambda x: list(map(lambda layer: layer(x), layers))[-1],  # noqa: C417
        lambda x: [layer(x) for _, layer in zip(range(2), layers, strict=True)][-1],
        lambda x: next(iter(reversed(list(layers))))(x),
    ]
    for program in programs:
        layers[0].factor = layers[1].factor = 2.0
        check(program, lambda: [setattr(layer, "factor", 3.0) for layer in layers])
