"""torch.func's transforms inside of jitted functions: eager's results, in compiled programs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import (
    functional_call,
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    stack_module_state,
    vjp,
    vmap,
)
from torch.nn import functional as F
from torch.utils import _pytree as pytree

import fulmen

Fn = Callable[..., Any]


def tensors(value: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]


def same(got: Any, expected: Any) -> None:
    """The same structure, values to the bit, and metadata."""
    got_leaves, got_structure = pytree.tree_flatten(got)
    expected_leaves, structure = pytree.tree_flatten(expected)
    assert got_structure == structure
    for g, e in zip(got_leaves, expected_leaves, strict=True):
        if not isinstance(e, torch.Tensor):
            assert g == e
            continue
        torch.testing.assert_close(g, e, rtol=0, atol=0, check_stride=True, equal_nan=True)
        assert g.requires_grad == e.requires_grad


def check(fn: Fn, *args: Any, compiled: bool = True, gradients: bool = False) -> Any:
    """The jitted function, which gave eager's result when it was compiled and when it ran again."""
    jitted = fulmen.jit(fn)
    for _ in range(2):
        results = []
        for call in (fn, jitted):
            given = pytree.tree_map_only(
                torch.Tensor, lambda t: t.detach().clone().requires_grad_(t.requires_grad), args
            )
            torch.manual_seed(7)
            out = call(*given)
            results.append((out, tensors(given), torch.rand(())))
        (expected, inputs, drawn), (got, jitted_inputs, jitted_drawn) = results
        same(got, expected)
        same(jitted_inputs, inputs)
        same(jitted_drawn, drawn)
        if gradients:
            same(differentiated(got, jitted_inputs), differentiated(expected, inputs))
    stats = fulmen.stats(jitted)
    if compiled:
        assert stats.splits == {}
        assert stats.cache_hits == 1
    else:
        assert stats.splits
    return jitted


def differentiated(out: Any, inputs: list[torch.Tensor]) -> Any:
    losses = [(t * t).sum() for t in tensors(out) if t.requires_grad]
    if not losses:
        return []
    loss = torch.stack(losses).sum()
    leaves = [t for t in inputs if t.requires_grad]
    return torch.autograd.grad(loss, leaves, allow_unused=True)


W = torch.linspace(-1, 1, 9).reshape(3, 3)
LINEAR = nn.Linear(3, 3)
NORM = nn.LayerNorm(3)


def with_loop(x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(x)
    for i in range(3):
        total = total + (x * i).cos()
    return total


def with_writes(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y.mul_(2).add_(x)
    y[..., 0] = x[..., 1]
    return y


def attention(x: torch.Tensor) -> torch.Tensor:
    q = x.reshape(1, 1, -1, 3)
    return F.scaled_dot_product_attention(q, q * 2, q + 1).reshape(x.shape)


# From a tensor (…, 3) to one of the same shape.
FUNCTIONS: dict[str, Fn] = {
    "sin": lambda x: x.sin(),
    "polynomial": lambda x: x**3 - 2 * x + 1,
    "matmul": lambda x: torch.tanh(x @ W) + 1.5,
    "linear": lambda x: F.gelu(LINEAR(x)),
    "softmax": lambda x: F.softmax(x, -1) * x,
    "layer_norm": lambda x: NORM(x),
    "where": lambda x: torch.where(x > 0, x, x.exp()),
    "shapes": lambda x: torch.stack([x, x * 2]).flip(0).sum(0).unsqueeze(0).squeeze(0),
    "index": lambda x: x[..., torch.tensor([2, 0, 1])] * torch.arange(3),
    "loop": with_loop,
    "writes": with_writes,
    "attention": attention,
    "reductions": lambda x: x - x.mean(-1, keepdim=True) + x.amax(),
    "einsum": lambda x: torch.einsum("...i,ij->...j", x, W),
}


def scalar(fn: Fn) -> Fn:
    return lambda x: (fn(x) ** 2).sum()


# From such a function to one of a tensor (4, 3).
TRANSFORMS: dict[str, Callable[[Fn], Fn]] = {
    "vmap": lambda f: vmap(f),
    "grad": lambda f: grad(scalar(f)),
    "per_sample": lambda f: vmap(grad(scalar(f))),
    "vjp": lambda f: lambda x: vjp(f, x)[1](x.cos()),
    "jvp": lambda f: lambda x: jvp(f, (x,), (x.cos(),)),
    "jacrev": lambda f: lambda x: jacrev(f)(x[0]),
    "jacfwd": lambda f: lambda x: jacfwd(f)(x[0]),
    "hessian": lambda f: lambda x: hessian(scalar(f))(x[0]),
    "second": lambda f: grad(scalar(grad(scalar(f)))),
    "vmap_vjp": lambda f: vmap(lambda x: vjp(f, x)[1](torch.ones_like(x))),
    "vmap_jacrev": lambda f: vmap(jacrev(f)),
    "jacobian": lambda f: lambda x: torch.autograd.functional.jacobian(f, x[0]),
}


# PyTorch has no formulas for these.
MISSING = {(t, "attention") for t in ("jvp", "jacfwd", "hessian", "second")}


@pytest.mark.parametrize(
    ("transform", "function"),
    [(t, f) for t in TRANSFORMS for f in FUNCTIONS if (t, f) not in MISSING],
)
def test_transforms(transform: str, function: str) -> None:
    transformed = TRANSFORMS[transform](FUNCTIONS[function])

    def fn(x: torch.Tensor) -> Any:
        return transformed(x * 2)

    check(fn, torch.linspace(-2, 2, 12).reshape(4, 3))


@pytest.mark.parametrize("function", ["polynomial", "matmul", "linear", "softmax", "einsum"])
@pytest.mark.parametrize("transform", ["vmap", "grad", "per_sample", "vjp", "jvp", "jacrev"])
def test_autograd_goes_through(transform: str, function: str) -> None:
    """Gradients of what a transform gave, with respect to the function's inputs."""
    transformed = TRANSFORMS[transform](FUNCTIONS[function])
    x = torch.linspace(-2, 2, 12).reshape(4, 3).requires_grad_()
    jitted = fulmen.jit(lambda x: transformed((x * 2).sin()))
    for _ in range(2):
        expected, got = (call(x) for call in (lambda x: transformed((x * 2).sin()), jitted))
        same(got, expected)
        for g, e in zip(differentiated(got, [x]), differentiated(expected, [x]), strict=True):
            torch.testing.assert_close(g, e)
    assert fulmen.stats(jitted).splits == {} and fulmen.stats(jitted).cache_hits == 1


X = torch.linspace(-2, 2, 12).reshape(4, 3)


# vmap


@pytest.mark.parametrize("in_dims", [0, 1, (0, None), (1, 0), (None, -1)])
@pytest.mark.parametrize("out_dims", [0, 1, -1])
def test_dims(in_dims: Any, out_dims: int) -> None:
    y = torch.linspace(0, 1, 12).reshape(4, 3).T.contiguous() if in_dims == (1, 0) else X + 1
    fn = vmap(lambda a, b: (a.sum() * b).unsqueeze(0), in_dims=in_dims, out_dims=out_dims)
    check(lambda x, y: fn(x, y), X, y)


def test_dims_of_a_tree() -> None:
    def inner(tree: Any, z: torch.Tensor) -> Any:
        return {"sum": tree["a"] + tree["b"][0], "z": [z * 2, tree["a"].sum()]}

    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        return vmap(inner, in_dims=({"a": 0, "b": [1]}, None), out_dims={"sum": 1, "z": [0, 0]})(
            {"a": x, "b": [y]}, x[0]
        )

    check(fn, X, X.T.contiguous())


def test_out_dim_of_none() -> None:
    def inner(x: torch.Tensor) -> Any:
        return x * 2, 5, W

    check(lambda x: vmap(inner, out_dims=(0, None, None))(x), X)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 10])
def test_chunks(chunk_size: int) -> None:
    check(lambda x: vmap(lambda a: (a @ W).sin(), chunk_size=chunk_size)(x), X)
    check(lambda x: jacrev(torch.sin, chunk_size=chunk_size)(x), X)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_random_numbers(randomness: str) -> None:
    def inner(x: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(3) + torch.rand_like(x) + torch.randint(5, (3,))
        return F.dropout(x, 0.5) + noise + torch.bernoulli(torch.full((3,), 0.5))

    check(lambda x: vmap(inner, randomness=randomness)(x), X)
    check(lambda x: vmap(grad(scalar(inner)), randomness=randomness)(x), X)


def test_random_numbers_in_a_gradient() -> None:
    check(lambda x: grad(lambda y: (F.dropout(y, 0.5) * torch.randn(4, 3)).sum())(x), X)


def test_random_numbers_that_eager_refuses() -> None:
    jitted = fulmen.jit(lambda x: vmap(lambda a: a + torch.rand(3))(x))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="called random operation while in randomness error"):
            jitted(X)


def test_nested_vmap() -> None:
    check(lambda x: vmap(vmap(lambda a, b: a * b, (0, None)), (None, 0))(x[0], x), X)
    check(lambda x: vmap(lambda a: vmap(lambda b: a @ b)(x))(x), X)  # a closure over all levels


def test_closure_over_values_of_the_program() -> None:
    def fn(x: torch.Tensor, scale: float) -> torch.Tensor:
        y = x.sum(0)
        return vmap(lambda a: a * y + scale)(x) + grad(lambda b: (b * y * x).sum())(y)

    check(fn, X, 2.5)


def test_errors_that_the_program_catches() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        try:
            return vmap(lambda a, b: a + b)(x, x[:2])
        except ValueError:
            return vmap(torch.sin)(x)

    check(fn, X)


def test_writes_to_what_is_captured() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(3)

        def inner(a: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                total.add_(a.detach().sum(0))
            return (a**2).sum()

        return grad(inner)(x) + total

    for call in (fn, fulmen.jit(fn)):
        with pytest.raises(RuntimeError, match="would mutate a captured Tensor"):
            call(X)
    check(lambda x: (vmap(lambda a: a.mul_(2))(x), x), X)


# Gradients


def test_what_the_inner_function_sees() -> None:
    def inner(a: torch.Tensor) -> Any:
        rows = [r * i for i, r in enumerate(a)]
        sizes = (len(a), a.numel(), a.ndim, a.size(-1), a.stride(), a.is_contiguous())
        assert isinstance(a, torch.Tensor) and type(a) is torch.Tensor and sizes[0] == 2
        out = torch.stack(rows) * sum(sizes[:4]) * (2 if a.is_contiguous() else 3)
        return out.mT @ a, torch.max(a, 0).values, torch.fft.fft(out).real

    check(lambda x: vmap(inner)(x.reshape(2, 2, 3)), X)
    check(lambda x: vmap(inner, in_dims=1)(x.reshape(2, 2, 3)), X)


def test_data_of_python() -> None:
    table = np.ones(3, np.float32)
    check(lambda x: vmap(lambda a: a + torch.tensor([1.0, 2.0, 3.0]) * np.float64(2))(x), X)
    check(lambda x: vmap(lambda a: a + torch.as_tensor(table))(x), X, compiled=False)


def test_jitted_functions_inside_and_outside() -> None:
    inner = fulmen.jit(lambda a: a.sin() * 2)
    check(lambda x: vmap(inner)(x) + grad(lambda y: inner(y).sum())(x), X)
    jitted = fulmen.jit(lambda w: vmap(torch.sin)(w))
    same(vmap(lambda a: a * jitted(W).sum())(X), vmap(lambda a: a * W.sin().sum())(X))
    same(grad(lambda a: inner(a).sum())(X), grad(lambda a: (a.sin() * 2).sum())(X))


def test_infinity_times_a_tangent_that_is_zero() -> None:
    """Forward mode has zeros that are no numbers: nothing times them is a NaN."""

    def inner(a: torch.Tensor) -> torch.Tensor:
        return (a * W[0]).masked_fill(a > 0, float("-inf")) * torch.full_like(a, 2.0)

    check(lambda x: jvp(inner, (x,), (torch.ones_like(x),)), X)
    check(lambda x: jacfwd(lambda a: torch.softmax(inner(a), -1))(x[3]), X)


def test_parts_of_a_tangent_that_is_zero() -> None:
    def inner(a: torch.Tensor) -> torch.Tensor:
        return torch.cat([p * 2 for p in torch.full_like(a, 3.0).split([1, 2], -1)], -1) * a

    check(lambda x: jacfwd(inner)(x[0]), X)
    check(lambda x: jvp(lambda a: (a.split([1, 2], -1)[1] * W[0, 1:], W + 1), (x,), (x,)), X)


def test_gradients_through_a_tangent_that_is_zero() -> None:
    """They are zeros, not None: the other operand's product rule has such a factor."""
    x = X.clone().requires_grad_()
    for fn in (lambda a: a * W[0], lambda a: a / W[0], lambda a: a * W[0] + a.detach() * W[0]):
        check(lambda x, fn=fn: jvp(fn, (x,), (torch.ones_like(x),))[1], x, gradients=True)
    check(lambda x: jacfwd(lambda a: a * W[0])(x[0]), x, gradients=True)
    w = torch.ones_like(X, requires_grad=True)
    check(lambda x, w: jvp(lambda a: a * w, (x,), (w * 2,))[1], x, w, gradients=True)


def test_parts_of_larger_tensors() -> None:
    base = torch.arange(40.0)

    def strided(x: torch.Tensor, offset: int | None) -> torch.Tensor:
        return grad(lambda a: (torch.as_strided(a, (2, 2), (2, 1), offset) ** 2).sum())(x)

    check(lambda x: strided(x[4:24].reshape(4, 5), None), base)
    check(lambda x: strided(x, 4), base[2:30], compiled=False)


def test_argnums_and_aux() -> None:
    def inner(a: Any, b: torch.Tensor, *, power: int) -> Any:
        return ((a["x"] * b) ** power).sum(), {"a": a["x"] * 2, "b": (b,)}

    def fn(x: torch.Tensor) -> Any:
        both = grad(inner, argnums=(0, 1), has_aux=True)({"x": x}, x + 1, power=2)
        value = grad_and_value(inner, has_aux=True)({"x": x}, x + 1, power=3)
        return both, value

    check(fn, X)


def test_has_aux_of_the_others() -> None:
    def inner(a: torch.Tensor) -> Any:
        return a.sin(), a * 2

    check(lambda x: jacrev(inner, has_aux=True)(x), X)
    check(lambda x: jacfwd(inner, has_aux=True)(x), X)
    check(lambda x: jvp(inner, (x,), (x,), has_aux=True), X)

    def pulled_back(x: torch.Tensor) -> Any:
        out, back, aux = vjp(inner, x, has_aux=True)
        return out, back(out), aux, back(aux)

    check(pulled_back, X)


def test_no_grad_inside_and_outside() -> None:
    def inner(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            c = x**2
        return (x - c).sum() + (x.detach() * x).sum()

    def fn(x: torch.Tensor) -> Any:
        with torch.no_grad():
            first = grad(inner)(x)
        return first, grad(inner)(x)

    check(fn, X)
    x = X.clone().requires_grad_()
    check(fn, x)


def test_requires_grad_as_the_level_sees_it() -> None:
    seen = []

    def fn(x: torch.Tensor) -> Any:
        def inner(y: torch.Tensor) -> torch.Tensor:
            seen.append((y.requires_grad, x.requires_grad, (y * 2).requires_grad, y.is_leaf))
            return y.sum() * (2 if y.requires_grad else 3)

        return grad(inner)(x), vmap(lambda a: a * (2 if a.requires_grad else 3))(x)

    check(fn, X)
    assert seen == [seen[0]] * 4


def test_parameters_of_a_module() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    y = torch.tensor([0, 1, 1, 0])

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> Any:
            params = {k: v.detach() for k, v in self.model.named_parameters()}

            def loss(params: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                out = functional_call(self.model, params, (x.unsqueeze(0),))
                return F.cross_entropy(out, y.unsqueeze(0))

            return vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)

    step = Step()
    jitted = fulmen.jit(step)
    for _ in range(3):
        same(jitted(X), step(X))
        with torch.no_grad():
            model[0].weight.mul_(1.5)  # new values, no new program
    stats = fulmen.stats(jitted)
    assert stats.splits == {} and (stats.cache_misses, stats.cache_hits) == (1, 2)
    assert type(model[0].weight) is nn.Parameter  # what functional_call swapped is back


def test_parameters_that_are_captured() -> None:
    """A level inside of a program that autograd differentiates by its parameters."""
    model = nn.Linear(3, 3)
    fn = lambda x: vmap(model)(x).sum() + grad(lambda a: model(a).tanh().sum())(x).sum()  # noqa: E731
    jitted = fulmen.jit(fn)
    for _ in range(2):
        expected, got = fn(X), jitted(X)
        same(got, expected)
        wanted = torch.autograd.grad(expected, [model.weight, model.bias])
        for g, e in zip(torch.autograd.grad(got, [model.weight, model.bias]), wanted, strict=True):
            torch.testing.assert_close(g, e)
    assert fulmen.stats(jitted).splits == {}


def test_ensemble() -> None:
    models = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(3)]
    params, buffers = stack_module_state(models)  # type: ignore[arg-type]
    base = models[0]

    def fn(params: Any, buffers: Any, x: torch.Tensor) -> Any:
        return vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers)

    check(fn, {k: v.detach() for k, v in params.items()}, buffers, X)

    def stacked(x: torch.Tensor) -> Any:
        params, buffers = stack_module_state(models)  # type: ignore[arg-type]
        return vmap(lambda p, b: functional_call(base, (p, b), (x,)))(params, buffers).detach()

    check(stacked, X)


def test_model_agnostic_meta_learning() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

    def loss(params: Any, x: torch.Tensor) -> torch.Tensor:
        return functional_call(net, params, (x,)).pow(2).mean()

    def inner(params: Any, x: torch.Tensor) -> torch.Tensor:
        grads = grad(loss)(params, x)
        return loss({k: params[k] - 0.1 * g for k, g in grads.items()}, x + 1)

    def fn(params: Any, tasks: torch.Tensor) -> Any:
        return grad(lambda p: vmap(functools.partial(inner, p))(tasks).mean())(params)

    check(fn, {k: v.detach() for k, v in net.named_parameters()}, X.reshape(2, 2, 3))


def test_functionalize() -> None:
    check(lambda x: functionalize(with_writes)(x), X)


def test_linearize() -> None:
    check(lambda x: linearize(torch.sin, x)[0], X, compiled=False)


def test_complex_numbers() -> None:
    check(lambda x: vmap(torch.fft.fft)(x), X)
    check(lambda x: grad(lambda y: torch.fft.fft(y).abs().sum())(x), X)


def test_linear_algebra() -> None:
    a = torch.eye(3).expand(4, 3, 3) * torch.arange(1.0, 5).reshape(4, 1, 1) + 0.1
    check(lambda a: vmap(torch.linalg.inv)(a), a)
    check(lambda a: vmap(grad(lambda m: torch.linalg.det(m) + m.trace()))(a), a)
    check(lambda a: vmap(torch.linalg.eigvalsh)(a), a)


def test_convolution_and_pooling() -> None:
    conv = nn.Conv2d(1, 2, 3)
    images = torch.linspace(-1, 1, 4 * 36).reshape(4, 1, 6, 6)

    def loss(weight: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(image.unsqueeze(0), weight, conv.bias)
        return F.max_pool2d(y.relu(), 2).pow(2).sum()

    check(lambda w, x: vmap(grad(loss), (None, 0))(w, x), conv.weight.detach(), images)


def test_embedding_and_loss() -> None:
    ids = torch.tensor([[0, 1], [2, 0], [1, 1]])

    def loss(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(F.embedding(ids, table), ids)

    check(lambda t, i: vmap(grad(loss), (None, 0))(t, i), X[:3], ids)


# Autograd's functions of functions


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_autograd_functional(create_graph: bool, requires_grad: bool) -> None:
    functional = torch.autograd.functional

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x**3).sum()

    def fn(x: torch.Tensor) -> Any:
        kwargs = {"create_graph": create_graph}
        return (
            functional.vjp(torch.sin, x, x, **kwargs),
            functional.jvp(torch.sin, x, x, **kwargs),
            functional.jacobian(torch.sin, x[0], **kwargs),
            functional.hessian(loss, x[0], **kwargs),
            functional.hvp(loss, x, x, **kwargs),
            functional.vhp(loss, x, x, **kwargs),
        )

    x = X.clone().requires_grad_(requires_grad)
    check(fn, x, compiled=requires_grad or not create_graph)


def test_vectorized_jacobian() -> None:
    functional = torch.autograd.functional
    check(lambda x: functional.jacobian(lambda y: (y @ W).sin(), x, vectorize=True), X)
    check(
        lambda x: functional.jacobian(
            lambda y: (y @ W).sin(), x, vectorize=True, strategy="forward-mode"
        ),
        X,
    )
    check(lambda x: functional.hessian(lambda y: (y @ W).sin().sum(), x, vectorize=True), X)


def test_gradient_inside_of_vmap() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        def inner(a: torch.Tensor) -> torch.Tensor:
            return torch.autograd.functional.vjp(torch.sin, a, a)[1]

        return vmap(inner)(x)

    for call in (fn, fulmen.jit(fn)):
        with pytest.raises(RuntimeError, match=r"attempting to call Tensor.requires_grad_\(\)"):
            call(X)


# What a program can't hold runs in eager


def test_values_are_asked_for() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda y: y.sum() * 2 if y.sum() > 0 else y.sum())(x)

    check(fn, X + 3, compiled=False)
    jitted = fulmen.jit(lambda x: vmap(lambda a: a * a.sum().item())(x))
    with pytest.raises(RuntimeError, match=r"calling \.item\(\) on a Tensor"):
        jitted(X)


def test_a_value_outlives_its_level() -> None:
    kept = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda y: kept.append(y * 2) or y.sum())(x)  # type: ignore[func-returns-value]

    jitted = fulmen.jit(fn)
    same(jitted(X), fn(X))
    assert fulmen.stats(jitted).splits and len(kept) == 2

    def pull_back(x: torch.Tensor) -> Any:
        return vjp(torch.sin, x)[1]

    same(fulmen.jit(pull_back)(X)(X), pull_back(X)(X))


def test_values_are_asked_for_between_transforms() -> None:
    def fn(x: torch.Tensor) -> Any:
        out, back = vjp(lambda y: (y @ W).sin(), x)
        if out.sum() > 0:
            return back(out)
        return grad(lambda y: (y * out).sum())(x)

    for sign in (1, -1):
        check(fn, X * sign + 0.1)


def test_functions_of_autograd_inside() -> None:
    class Twice(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * 2

    check(lambda x: vmap(grad(lambda a: Twice.apply(a).sum()))(x), X, compiled=False)


def test_what_the_inner_function_reads_is_guarded() -> None:
    config = {"scale": 2.0}

    class Settings:
        power = 2

    settings = Settings()

    def inner(a: torch.Tensor) -> torch.Tensor:
        return (a**settings.power * config["scale"]).sum()

    fn = lambda x: vmap(grad(inner))(x)  # noqa: E731
    jitted = fulmen.jit(fn)
    same(jitted(X), fn(X))
    settings.power = 3
    same(jitted(X), fn(X))
    config["scale"] = 4.0
    same(jitted(X), fn(X))
    stats = fulmen.stats(jitted)
    assert (stats.cache_misses, stats.cache_hits) == (3, 0)
    assert "settings" in stats.recompiles[0] and "scale" in stats.recompiles[1]
    same(jitted(X), fn(X))
    assert fulmen.stats(jitted).cache_hits == 1


def test_effects_happen_once_at_each_call() -> None:
    log: list[Any] = []

    def inner(a: torch.Tensor) -> torch.Tensor:
        log.append(tuple(a.shape))
        return a.sum()

    jitted = fulmen.jit(lambda x: grad(inner)(x))
    for n in (1, 2, 3):
        jitted(X)
        assert log == [(4, 3)] * n
    assert fulmen.stats(jitted).cache_hits == 2


def test_autocast() -> None:
    def fn(x: torch.Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return vmap(lambda a: a @ W)(x), grad(lambda a: (a @ W).sum())(x)

    check(fn, X)


def test_under_modes_of_the_caller() -> None:
    fn = lambda x: (grad(lambda a: (a @ W).sin().sum())(x), vmap(torch.cos)(x))  # noqa: E731
    jitted = fulmen.jit(fn)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            expected, got = fn(X), jitted(X)
            same(got, expected)
            assert [t.is_inference() for t in got] == [t.is_inference() for t in expected]


def test_nothing_is_left_behind() -> None:
    """A call that is given up half-way leaves no level and no disabled hooks."""

    def innermost(c: torch.Tensor) -> torch.Tensor:
        return c.sum() + float(c.sum())

    def fn(x: torch.Tensor) -> Any:
        return vmap(lambda a: jvp(grad(innermost), (a,), (a,)))(x)

    with pytest.raises(RuntimeError):
        fulmen.jit(fn)(X)
    assert torch._C._functorch.maybe_current_level() is None
    assert torch.autograd.forward_ad._current_level == -1
    hooks = torch._C._autograd._saved_tensors_hooks_get_disabled_error_message()
    assert hooks is None
    check(lambda x: grad(lambda y: y.sin().sum())(x), X)
