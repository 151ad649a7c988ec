"""fulmen.grad, value_and_grad, vjp and jvp against torch.func."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import fulmen


def loss(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    return (torch.tanh(x @ w["a"]) * w["b"]).square().mean()


def arguments() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return (
        torch.randn(3, 4, dtype=torch.float64),
        {k: torch.randn(4, 4, dtype=torch.float64)[: 4 if k == "a" else 3] for k in "ab"},
    )


def equal(a: object, b: object) -> bool:
    leaves, structure = torch.utils._pytree.tree_flatten(a)
    others, other_structure = torch.utils._pytree.tree_flatten(b)
    return structure == other_structure and all(
        torch.allclose(x, y, rtol=1e-12, atol=0) for x, y in zip(leaves, others, strict=True)
    )


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), -1])
def test_grad(argnums) -> None:
    args = arguments()
    got = fulmen.grad(loss, argnums)(*args)
    assert equal(got, torch.func.grad(loss, argnums)(*args))
    assert not any(t.requires_grad for t in torch.utils._pytree.tree_leaves(got))


def test_value_and_grad_with_aux() -> None:
    def f(x, w):
        return loss(x, w), x.sum()

    (value, aux), gradient = fulmen.value_and_grad(f, has_aux=True)(*arguments())
    expected, (expected_value, expected_aux) = torch.func.grad_and_value(f, has_aux=True)(
        *arguments()
    )
    assert equal(gradient, expected)
    assert equal((value, aux), (expected_value, expected_aux))


def test_grad_of_grad() -> None:
    def f(x):
        return (torch.sin(x) * x.exp()).sum()

    def twice(g):
        return lambda x: g(f)(x).square().sum()

    x = torch.randn(5, dtype=torch.float64)
    assert equal(fulmen.grad(twice(fulmen.grad))(x), torch.func.grad(twice(torch.func.grad))(x))


def test_grad_of_arguments_that_require_grad() -> None:
    x, w = arguments()
    results = []
    for g in (fulmen.grad, torch.func.grad):
        leaf = x.clone().requires_grad_()
        g(loss)(leaf, w).square().sum().backward()
        results.append(leaf.grad)
    assert equal(*results)


def test_vjp() -> None:
    def f(x, w):
        h = torch.tanh(x @ w["a"])
        return {"h": h, "sum": h.sum()}

    args = arguments()
    got, pull = fulmen.vjp(f, *args)
    expected, expected_pull = torch.func.vjp(f, *args)
    assert equal(got, expected)
    cotangents = {"h": torch.ones_like(got["h"]) * 2, "sum": torch.tensor(3.0).double()}
    assert equal(pull(cotangents), expected_pull(cotangents))
    assert equal(pull(cotangents), expected_pull(cotangents))
    with pytest.raises(RuntimeError, match="cotangents of structure"):
        pull(cotangents["h"])


def test_refusals() -> None:
    with pytest.raises(RuntimeError, match=r"shape \(3, 4\); expected a floating-point tensor of"):
        fulmen.grad(lambda x: x * 2)(torch.ones(3, 4))
    with pytest.raises(RuntimeError, match=r"torch.int64 to differentiate by"):
        fulmen.grad(lambda x: x.sum())(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got 2\.0 to differentiate by"):
        fulmen.grad(lambda x: x.sum())(2.0)
    with pytest.raises(RuntimeError, match="argnums names argument 2"):
        fulmen.grad(lambda x: x.sum(), 2)(torch.ones(3))


def test_jvp() -> None:
    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.layer_norm((x @ w).tanh(), (4,)).softmax(-1)

    x, w = torch.randn(3, 5), torch.randn(5, 4)
    for _ in range(2):
        got = fulmen.jvp(f, (x, w), (x.cos(), w.sin()))
        torch.testing.assert_close(got, torch.func.jvp(f, (x, w), (x.cos(), w.sin())))


def test_jvp_and_other_transforms() -> None:
    x = torch.randn(3, 5)

    def cube(a: torch.Tensor) -> torch.Tensor:
        return (a.sin() ** 3).sum()

    product = fulmen.jvp(fulmen.grad(cube), (x,), (x.cos(),))
    expected = torch.func.jvp(torch.func.grad(cube), (x,), (x.cos(),))
    torch.testing.assert_close(product, expected)

    def slope(a: torch.Tensor) -> torch.Tensor:
        return fulmen.jvp(torch.sin, (a,), (a,))[1].sum()

    torch.testing.assert_close(fulmen.grad(slope)(x), x.cos() - x * x.sin())
    inside = fulmen.jit(slope)
    torch.testing.assert_close(inside(x), (x * x.cos()).sum())
    assert not fulmen.stats(inside).splits


def test_jvp_refusals() -> None:
    x = torch.randn(3)
    result, derivative, rest = fulmen.jvp(lambda a: (a * 2, a + 1), (x,), (x,), has_aux=True)
    torch.testing.assert_close((result, derivative, rest), (x * 2, x * 2, x + 1))
    with pytest.raises(RuntimeError, match="same python structure"):
        fulmen.jvp(torch.sin, (x,), (x, x))
    with pytest.raises(RuntimeError, match="different size"):
        fulmen.jvp(torch.sin, (x,), (x[:2],))

    class Callable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, a: torch.Tensor) -> torch.Tensor:
            return a * 3

    torch.testing.assert_close(fulmen.jvp(Callable(), (x,), (x,))[1], x * 3)
