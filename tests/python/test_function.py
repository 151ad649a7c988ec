"""fulmen.jit of a function: arguments and results of all kinds, as eager."""

from __future__ import annotations

import collections
import dataclasses
import typing
from typing import Any

import pytest
import torch

import fulmen


def leaves_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            leaves_equal(x, y)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            leaves_equal(a[key], b[key])
    else:
        assert a == b


class Point(typing.NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclasses.dataclass
class Result:
    value: torch.Tensor
    count: int


def with_defaults(x: torch.Tensor, scale: float = 2.0, *, bias: Any = None) -> Any:
    y = x * scale
    return y if bias is None else y + bias


def nested(data: dict[str, Any]) -> dict[str, Any]:
    a, (b, c) = data["pair"]
    return {"sum": a + b, "list": [c * 2, (a, {"k": b - c})], "n": 3, "none": None, "s": "text"}


def starred(*args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
    return sum(args) + sum(v for _, v in sorted(kwargs.items()))


def ordered(x: torch.Tensor) -> Any:
    return collections.OrderedDict(b=x + 1, a=x - 1)


def t(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (with_defaults, (t(),), {}),
        (with_defaults, (t(), 3.0), {}),
        (with_defaults, (t(),), {"bias": t(1)}),
        (with_defaults, (t(),), {"scale": 0.5, "bias": 1}),
        (nested, ({"pair": (t(), [t(1), t(2)])},), {}),
        (starred, (t(), t(1)), {"p": t(2), "q": t(3)}),
        (ordered, (t(),), {}),
        (lambda x: x, (t(),), {}),
        (lambda x: (x, x), (t(),), {}),
        (lambda x: [x + 1, None, 4, True, 1.5], (t(),), {}),
        (lambda x: None, (t(),), {}),
        (lambda x: 7, (t(),), {}),
        (lambda: torch.ones(2), (), {}),
        (lambda x: (x.shape, x.dtype, x.ndim), (t(),), {}),
        (lambda x: x.sum(), (t(),), {}),
        (lambda x: x.T, (t(),), {}),
        (lambda x: torch.empty(0, 3), (t(),), {}),
        (lambda x: x[:0], (t(),), {}),
        (lambda x: x.max(dim=1), (t(),), {}),
        (lambda x: torch.topk(x, 2), (t(),), {}),
        (lambda x: x.split(1), (t(),), {}),
        (lambda x: Point(x, x + 1), (t(),), {}),
        (lambda p: p.x + p.y, (Point(t(), t(1)),), {}),
    ],
)
def test_arguments_and_results(fn: Any, args: Any, kwargs: Any) -> None:
    jitted = fulmen.jit(fn)
    expected = fn(*args, **kwargs)
    for _ in range(2):
        leaves_equal(jitted(*args, **kwargs), expected)


def test_dataclass_result() -> None:
    def fn(x: torch.Tensor) -> Result:
        return Result(x * 2, 5)

    got = fulmen.jit(fn)(t())
    assert type(got) is Result and got.count == 5 and torch.equal(got.value, t() * 2)


def test_a_returned_argument_is_the_argument() -> None:
    x = t()
    got = fulmen.jit(lambda x: (x, x + 1))(x)
    assert got[0] is x


def test_looks_like_the_function() -> None:
    jitted = fulmen.jit(with_defaults)
    assert jitted.__name__ == "with_defaults"
    assert jitted.__wrapped__ is with_defaults
    assert jitted.__doc__ == with_defaults.__doc__


def test_closures_and_globals() -> None:
    weight = t(1)
    factor = 2

    def fn(x: torch.Tensor) -> torch.Tensor:
        return x * weight * factor

    jitted = fulmen.jit(fn)
    assert torch.equal(jitted(t()), fn(t()))
    weight.mul_(2)
    assert torch.equal(jitted(t()), fn(t()))
    factor = 5
    assert torch.equal(jitted(t()), fn(t()))
    weight = t(3)
    assert torch.equal(jitted(t()), fn(t()))


def test_two_functions_of_one_code_object() -> None:
    def make(factor: int) -> Any:
        return lambda x: x * factor

    two, three = fulmen.jit(make(2)), fulmen.jit(make(3))
    assert torch.equal(two(t()), t() * 2)
    assert torch.equal(three(t()), t() * 3)
    assert fulmen.stats(two).cache_misses == fulmen.stats(three).cache_misses == 1


def test_bound_method() -> None:
    class Scale:
        factor = 3

        def apply(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    scale = Scale()
    jitted = fulmen.jit(scale.apply)
    assert torch.equal(jitted(t()), t() * 3)
    scale.factor = 4
    assert torch.equal(jitted(t()), t() * 4)


def test_control_flow_on_metadata() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > 2:
            return x.sum(0)
        return x * 2 if x.dtype == torch.float32 else x

    jitted = fulmen.jit(fn)
    for x in (t(), torch.randn(4, 3), t().double()):
        leaves_equal(jitted(x), fn(x))


def test_control_flow_on_data() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        if y.sum() > 0:
            return y + 1
        return y - 1

    jitted = fulmen.jit(fn)
    for x in (torch.ones(3), -torch.ones(3), torch.ones(3)):
        leaves_equal(jitted(x), fn(x))


def test_item_and_side_effects() -> None:
    log: list[float] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        log.append(y.sum().item())
        return y * log[-1]

    jitted = fulmen.jit(fn)
    for x in (torch.ones(3), torch.zeros(3)):
        expected = fn(x)
        leaves_equal(jitted(x), expected)
    assert log == [6.0, 6.0, 3.0, 3.0]


def test_grad_modes() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        a = x * y
        with torch.no_grad():
            b = a * 2
            with torch.enable_grad():
                c = a + b
        d = c.detach() + y
        return a, b, c, d

    x, y = t().requires_grad_(), t(1).requires_grad_()
    jitted = fulmen.jit(fn)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            got, expected = jitted(x, y), fn(x, y)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)
            assert a.requires_grad == b.requires_grad
        assert torch.is_grad_enabled()
    grads = []
    for f in (fn, jitted):
        x.grad = y.grad = None
        a, _, c, d = f(x, y)
        (a.sum() + c.sum() + d.sum()).backward()
        grads.append((x.grad, y.grad))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_inference_mode_inside() -> None:
    def fn(x: torch.Tensor) -> Any:
        a = x * 2
        with torch.inference_mode():
            b = a + 1
        return a, b, a.sin()

    x = t().requires_grad_()
    got, expected = fulmen.jit(fn)(x), fn(x)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad == b.requires_grad and a.is_inference() == b.is_inference()


def test_grad_modes_around_a_split() -> None:
    def fn(x: torch.Tensor) -> Any:
        a = x * 2
        with torch.no_grad():
            b = a + 1
            with torch.autocast("cpu", dtype=torch.bfloat16):
                c = b @ b.t()
            d = b * 3
        return a.sin(), b, c, d, a + d

    x = t().requires_grad_()
    got, expected = fulmen.jit(fn)(x), fn(x)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype
        assert a.requires_grad == b.requires_grad


def test_set_grad_enabled_that_stays() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        torch.set_grad_enabled(False)
        return x * 2

    x = t().requires_grad_()
    try:
        assert not fulmen.jit(fn)(x).requires_grad
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


def test_second_derivatives() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return (x.sin() * x).sum()

    x = t().requires_grad_()
    results = []
    for f in (fn, fulmen.jit(fn)):
        (g,) = torch.autograd.grad(f(x), x, create_graph=True)
        (gg,) = torch.autograd.grad(g.sum(), x)
        results.append((g, gg))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_decorator() -> None:
    @fulmen.jit
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x.relu()

    assert torch.equal(fn(t()), t().relu())


def test_random_numbers_are_eagers() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn(2, 3) * torch.rand_like(x) + torch.randint(0, 5, (2, 3))

    jitted = fulmen.jit(fn)
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = fn(t())
        torch.manual_seed(seed)
        assert torch.equal(jitted(t()), expected)
