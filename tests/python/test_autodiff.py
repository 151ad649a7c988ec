"""Gradients of jitted programs: as eager's, in every use of them that PyTorch knows."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import fulmen


class MLP(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(6, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.second = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.gelu(self.norm(self.first(x)))).softmax(-1)


def chain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * w).exp() * x


def leaves(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


def pair() -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    model = MLP().double()
    return fulmen.jit(copy.deepcopy(model)), model


def assert_same_grads(a: torch.nn.Module, b: torch.nn.Module) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            assert torch.equal(p.grad, q.grad), name


def has_region(function) -> bool:
    return any("autograd.differentiable" in str(t) for t in fulmen.last_traces(function))


def test_a_region_is_made() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    jitted(x, w)
    assert has_region(jitted)


def test_gradients_accumulate_over_calls() -> None:
    jitted, eager = pair()
    x = torch.randn(3, 6, dtype=torch.float64)
    for _ in range(3):
        for m in (jitted, eager):
            m(x).square().sum().backward()
    assert_same_grads(jitted, eager)


def test_optimizer_steps_between_calls() -> None:
    jitted, eager = pair()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1) for m in (jitted, eager)]
    for step in range(5):
        x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for m, o in zip((jitted, eager), optimizers, strict=True):
            o.zero_grad()
            m(x)[:, 0].log().sum().backward()
            o.step()
        assert_same_grads(jitted, eager)
    assert fulmen.stats(jitted).cache_misses == 1


def test_undefined_gradients() -> None:
    def f(x, w):
        h = torch.tanh(x * w)
        return h.sum(), (h * w).exp(), h

    jitted = fulmen.jit(f)
    for used in ([0], [1], [2], [0, 2], [0, 1, 2]):
        x, w = leaves((3, 4), (4,))
        got = torch.autograd.grad(sum(jitted(x, w)[i].sum() for i in used), (x, w))
        expected = torch.autograd.grad(sum(f(x, w)[i].sum() for i in used), (x, w))
        assert all(torch.allclose(a, b, rtol=1e-13) for a, b in zip(got, expected, strict=True))


def test_only_some_inputs_are_asked_for() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    for wanted in ([x], [w], [w, x]):
        got = torch.autograd.grad(jitted(x, w).sum(), wanted)
        assert all(map(torch.equal, got, torch.autograd.grad(chain(x, w).sum(), wanted)))


def test_gradients_in_other_layouts() -> None:
    jitted = fulmen.jit(lambda x, w: chain(x, w).view(12).sin().view(3, 4))
    x, w = leaves((3, 4), (4,))
    eager = chain(x, w).view(12).sin().view(3, 4)
    got = jitted(x, w)
    for seed in (torch.randn(4, 3, dtype=torch.float64).t(), torch.ones(()).double().expand(3, 4)):
        a = torch.autograd.grad(got, (x, w), seed, retain_graph=True)
        b = torch.autograd.grad(eager, (x, w), seed, retain_graph=True)
        assert all(map(torch.equal, a, b))


def test_retain_graph_and_backward_twice() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    out = jitted(x, w).sum()
    out.backward(retain_graph=True)
    out.backward()
    a = x.grad.clone()
    x.grad = None
    eager = chain(x, w).sum()
    eager.backward(retain_graph=True)
    eager.backward()
    assert torch.equal(a, x.grad)
    for result in (out, eager):
        with pytest.raises(RuntimeError, match="Trying to backward through the graph a second"):
            result.backward()


@pytest.mark.parametrize("what", ["input", "view of an input", "result"])
def test_saved_tensor_modified_in_place(what: str) -> None:
    def product(x, w):
        return (x * 2).sin() @ w.t()

    def of_result(x, w):
        return torch.exp(x * w)

    f = {"input": chain, "view of an input": product, "result": of_result}[what]
    for function in (fulmen.jit(f), f):
        x, w = leaves((4, 4), (4, 4))
        out = function(x, w)
        with torch.no_grad():
            (out if what == "result" else w).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


def test_mismatched_gradient() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        jitted(x, w).backward(torch.ones(5, dtype=torch.float64))


def test_create_graph() -> None:
    jitted = fulmen.jit(chain)
    results = []
    for f in (jitted, chain):
        x, w = leaves((3, 4), (4,))
        (gx, gw) = torch.autograd.grad(f(x, w).sum(), (x, w), create_graph=True)
        results.append(torch.autograd.grad(gx.square().sum() + gw.sum(), (x, w)))
    assert all(torch.allclose(a, b) for a, b in zip(*results, strict=True))
    x, w = leaves((3, 4), (4,))
    assert torch.autograd.gradgradcheck(jitted, (x, w))


def test_frozen_parameters_get_no_work() -> None:
    jitted, eager = pair()
    x = torch.randn(3, 6, dtype=torch.float64)
    for m in (jitted, eager):
        m.first.weight.requires_grad_(False)
        m.norm.requires_grad_(False)
        m(x).log().sum().backward()
    assert_same_grads(jitted, eager)
    jitted.norm.requires_grad_(True)
    eager.norm.requires_grad_(True)
    for m in (jitted, eager):
        m(x).log().sum().backward()
    assert_same_grads(jitted, eager)
    assert fulmen.stats(jitted).cache_misses == 2


def test_tied_parameters() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(10, 4)
            self.head = torch.nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return F.cross_entropy(self.head(torch.relu(self.embed(ids))), ids)

    torch.manual_seed(0)
    eager = Tied().double()
    jitted = fulmen.jit(copy.deepcopy(eager))
    ids = torch.arange(6)
    for m in (jitted, eager):
        m(ids).backward()
    assert torch.equal(jitted.embed.weight.grad, eager.embed.weight.grad)


def test_hooks_on_tensors_and_parameters() -> None:
    # The order of hooks on leaves is no promise: one node gives all their gradients at once.
    seen: list[dict[str, torch.Tensor]] = []
    for m in pair():
        found: dict[str, torch.Tensor] = {}

        def note(name, found=found):
            return lambda t: found.update(
                {name: t.grad + 0 if t.is_leaf and t.grad is not None else t}
            )

        m.first.weight.register_hook(lambda g: g * 2)
        m.second.bias.register_post_accumulate_grad_hook(note("bias"))
        x = torch.ones(3, 6, dtype=torch.float64, requires_grad=True)
        x.register_hook(note("x"))
        out = m(x)
        out.register_hook(note("out"))
        out[:, 1].sum().backward()
        found["weight"] = m.first.weight.grad
        seen.append(found)
    assert seen[0].keys() == seen[1].keys() == {"bias", "x", "out", "weight"}
    assert all(torch.equal(seen[0][k], seen[1][k]) for k in seen[0])


def test_no_grad_and_detach_inside() -> None:
    def f(x, w):
        with torch.no_grad():
            scale = (x * 3).mean().view(1)
            inner = x.view(-1)
        h = torch.sin(x) * scale + w.detach() * w
        return h.sum() + (inner * 2).sum()

    jitted = fulmen.jit(f)
    x, w = leaves((3, 4), (4,))
    got = torch.autograd.grad(jitted(x, w), (x, w))
    assert all(map(torch.equal, got, torch.autograd.grad(f(x, w), (x, w))))


def test_results_that_are_views_or_inputs() -> None:
    def f(x, w):
        h = torch.tanh(x) * w
        return x, h[0], h.t(), x.view(-1), h.detach(), w

    jitted = fulmen.jit(f)
    x, w = leaves((3, 4), (4,))
    got, expected = jitted(x, w), f(x, w)
    assert got[0] is x and got[5] is w
    for a, b in zip(got, expected, strict=True):
        assert (a.requires_grad, a.is_leaf, a._is_view()) == (
            b.requires_grad,
            b.is_leaf,
            b._is_view(),
        )
        assert torch.equal(a, b)
    grads = [
        torch.autograd.grad(o[1].sum() + (o[2] * 2).sum() + o[3].sin().sum(), (x, w))
        for o in (got, expected)
    ]
    assert all(map(torch.equal, *grads))


def test_results_modified_in_place() -> None:
    def f(x, w):
        h = x.sin() * w
        return h, h[1]

    results = []
    for function in (fulmen.jit(f), f):
        x, w = leaves((3, 4), (4,))
        h, row = function(x, w)
        h.mul_(3)
        row.add_(1)
        results.append(torch.autograd.grad(h.square().sum(), (x, w)))
    assert all(torch.allclose(a, b) for a, b in zip(*results, strict=True))


def test_batch_norm_in_training() -> None:
    torch.manual_seed(0)
    eager = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True)
    ).double()
    jitted = fulmen.jit(copy.deepcopy(eager))
    for _ in range(3):
        x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
        for m in (jitted, eager):
            m(x).square().sum().backward()
        assert_same_grads(jitted, eager)
        assert torch.equal(jitted[1].running_var, eager[1].running_var)


def test_in_place_on_a_leaf_is_refused() -> None:
    def f(x):
        x.mul_(2)
        return x * 3

    for function in (fulmen.jit(f), f):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            function(torch.ones(3, requires_grad=True))


def test_an_autograd_function_in_between() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 7 + x

    def f(x, w):
        return torch.tanh(Double.apply(torch.sin(x * w).cos()) * w).exp().sum()

    jitted = fulmen.jit(f)
    x, w = leaves((3, 4), (4,))
    got = torch.autograd.grad(jitted(x, w), (x, w))
    assert all(map(torch.equal, got, torch.autograd.grad(f(x, w), (x, w))))


@pytest.mark.parametrize("reentrant", [False, True])
def test_under_checkpoint(reentrant: bool) -> None:
    jitted, eager = pair()
    for m in (jitted, eager):
        x = torch.ones(3, 6, dtype=torch.float64, requires_grad=True)
        checkpoint(m, x * 2, use_reentrant=reentrant)[:, 0].sum().backward()
    assert_same_grads(jitted, eager)


def test_saved_tensor_hooks() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    packed: list[torch.Tensor] = []

    def pack(t):
        packed.append(t)
        return t.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t * 1):
        out = jitted(x, w).sum()
    assert packed
    got = torch.autograd.grad(out, (x, w))
    assert all(map(torch.equal, got, torch.autograd.grad(chain(x, w).sum(), (x, w))))


def test_saved_tensors_are_given_back() -> None:
    jitted = fulmen.jit(lambda x: (x.sin() * 2).exp().sum())
    x = torch.ones(1000, requires_grad=True)
    out = jitted(x)
    node = weakref.ref(out)
    out.backward()
    del out
    gc.collect()
    assert node() is None


def test_backward_in_several_threads() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((3, 4), (4,))
    expected = torch.autograd.grad(chain(x, w).sum(), (x, w))
    problems: list[object] = []

    def work() -> None:
        for _ in range(20):
            got = torch.autograd.grad(jitted(x, w).sum(), (x, w))
            if not all(map(torch.equal, got, expected)):
                problems.append(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems


def test_vmap_over_the_backward() -> None:
    jitted = fulmen.jit(chain)
    x, w = leaves((4,), (4,))
    seeds = torch.eye(4, dtype=torch.float64)
    got = torch.autograd.grad(jitted(x, w), x, seeds, is_grads_batched=True)[0]
    expected = torch.autograd.grad(chain(x, w), x, seeds, is_grads_batched=True)[0]
    assert torch.equal(got, expected)


def written_without_grad(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    with torch.no_grad():
        y.masked_fill_(y > 0, 0.1)
    return y.sin()


def first_read_without_grad(x: torch.Tensor) -> torch.Tensor:
    y = (x * 2).sin()
    with torch.no_grad():
        z = y.t() @ y
    return z


def viewed_without_grad(x: torch.Tensor) -> Any:
    y = x * 2
    z = y.split(1, -1)[-1]
    with torch.no_grad():
        v = y[0:]
    return y.exp(), z * 2, v


def nested_without_grad(x: torch.Tensor) -> Any:
    with torch.no_grad():
        with torch.no_grad():
            y = x * 2
        z = y * x + 1
        with torch.enable_grad():
            w = x.sin().exp()
        v = x.sin().exp()
    return y, z, w, v, w * v


def asks_for_the_mode(x: torch.Tensor) -> Any:
    with torch.no_grad():
        y = x * 2 if torch.is_grad_enabled() else x * 3
    return y, x * 2 if torch.is_grad_enabled() else x * 3


@pytest.mark.parametrize(
    "function",
    [
        written_without_grad, first_read_without_grad, viewed_without_grad, nested_without_grad,
        asks_for_the_mode,
    ],
)  # fmt: skip
def test_each_operation_has_its_own_grad_mode(function: Callable[..., Any]) -> None:
    jitted = fulmen.jit(function)
    for _ in range(2):
        results, grads = [], []
        for f in (jitted, function):
            (x,) = leaves((3, 3))
            out = f(x)
            results.append(out if isinstance(out, tuple) else (out,))
            if total := [t.sum() for t in results[-1] if t.requires_grad]:
                torch.stack(total).sum().backward()
            grads.append(x.grad)
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b) and a.requires_grad == b.requires_grad
        assert (grads[0] is None) == (grads[1] is None)
        assert grads[1] is None or torch.allclose(*grads, rtol=1e-13)
