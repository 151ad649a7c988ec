"""The forms in which PyTorch takes a call: names, in-place flags, out=, types of results."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))

import exactness

import fulmen
from fulmen import _core
from fulmen.compile import compile_trace
from fulmen.errors import DataDependentError, UserRuntimeError
from fulmen.trace import trace_call

X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def run(fn: Callable[..., Any], *args: Any) -> tuple[Any, list[str], dict[str, str]]:
    """The compiled result, the symbols as called, and the fallbacks."""
    trace, tracer, inputs = trace_call(fn, args, {})
    dispatch = _core.Dispatch(lambda *a: pytest.fail("the program refuses its inputs"))
    dispatch.add(compile_trace(trace).program, (None,) * len(inputs), ())
    names = [b.symbol.name for b in trace.bound_symbols]
    return dispatch(*inputs), names, tracer.fallbacks


def check_rows(fn: Callable[..., Any], *args: Any) -> list[str]:
    got, names, fallbacks = run(fn, *args)
    assert not fallbacks
    if exactness.with_kernels():
        assert not exactness.difference(got, fn(*args), lambda given: fn(*given), args)
    else:
        torch.testing.assert_close(got, fn(*args), rtol=0, atol=0)
    return names


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.sum(x, axis=1, keepdims=True),
        lambda x: x.mean(axis=(0, 2), keepdims=True),
        lambda x: x.argmax(axis=1),
        lambda x: torch.softmax(x, axis=-1),
        lambda x: torch.cat([x, x], axis=1),
        lambda x: torch.stack([x, x], axis=1),
        lambda x: x.unsqueeze(axis=1),
        lambda x: x.cumsum(axis=1),
        lambda x: torch.std(x, axis=1),
        lambda x: torch.add(x=x, x2=x),
        lambda x: torch.relu(a=x),
    ],
)
def test_numpy_names(fn: Callable[..., Any]) -> None:
    check_rows(fn, X)


def test_python_functions_take_torch_names_only() -> None:
    with pytest.raises(TypeError, match="axis"):
        fulmen.trace(lambda x: F.softmax(x, axis=1))(X)


@pytest.mark.parametrize(
    "name", "relu relu6 hardtanh elu selu celu leaky_relu silu mish hardswish hardsigmoid".split()
)
def test_inplace_flag(name: str) -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        z = getattr(F, name)(y, inplace=True)
        return y + z

    assert check_rows(fn, X)[1] == f"{name}_"


def test_dropout_in_place() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        F.dropout(y, 0.5, inplace=True)
        return y

    torch.manual_seed(0)
    got, _, fallbacks = run(fn, X)
    assert not fallbacks
    torch.manual_seed(0)
    assert torch.equal(got, fn(X))


def test_bernoulli_default() -> None:
    torch.manual_seed(0)
    got, _, fallbacks = run(lambda x: x.clone().bernoulli_(), X)
    assert not fallbacks
    torch.manual_seed(0)
    assert torch.equal(got, X.clone().bernoulli_())


def test_results_have_field_names() -> None:
    check_rows(lambda x: x.max(dim=1).values + x.sort(dim=1).values[:, 0], X)
    assert check_rows(lambda x: torch.topk(x, 2).indices, X) == ["topk"]


def test_python_functions_are_recorded_as_their_bodies() -> None:
    names = check_rows(lambda x: F.local_response_norm(x, 2), X)
    assert "avg_pool2d" in names
    mha = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    parameters = dict(mha.named_parameters())
    names = check_rows(
        lambda x, *p: torch.func.functional_call(
            mha, dict(zip(parameters, p, strict=True)), (x, x, x)
        )[0],
        X,
        *(p.detach() for p in parameters.values()),
    )
    assert "linear" in names and "softmax" in names


def test_a_body_that_needs_values_is_opaque() -> None:
    def loss(x: torch.Tensor) -> torch.Tensor:
        return F.gaussian_nll_loss(x, x + 1, x * x)

    got, names, fallbacks = run(loss, X)
    assert list(fallbacks) == ["torch.nn.functional.gaussian_nll_loss"]
    assert names.count("torch.nn.functional.gaussian_nll_loss") == 1
    assert "any" not in names, "what its body recorded is taken back"
    assert torch.equal(got, loss(X))


def test_gelu_refuses_what_eager_refuses() -> None:
    with pytest.raises(UserRuntimeError, match="'none' or 'tanh'"):
        fulmen.trace(lambda x: F.gelu(x, approximate="erf"))(X)


def test_out_accumulates_in_its_dtype() -> None:
    out, expected = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    got, _, fallbacks = run(lambda x, o: torch.sum(x, 1, out=o), X, out)
    torch.sum(X, 1, out=expected)
    assert not fallbacks and torch.equal(out, expected) and torch.equal(got, expected)


def test_out_gives_creation_its_dtype() -> None:
    out = torch.zeros(5)
    run(lambda o: torch.arange(5, out=o), out)
    assert torch.equal(out, torch.arange(5.0))


@pytest.mark.parametrize("shape", [(40,), (40, 2)])
def test_out_of_random_functions(shape: tuple[int, ...]) -> None:
    out, expected = torch.zeros(shape)[..., :1], torch.zeros(shape)[..., :1]
    torch.manual_seed(0)
    run(lambda o: torch.randn(o.shape, out=o), out)
    torch.manual_seed(0)
    torch.randn(expected.shape, out=expected)
    assert torch.equal(out, expected)


def test_out_does_not_differentiate() -> None:
    x = X.clone().requires_grad_()
    with pytest.raises(UserRuntimeError, match="requires grad"):
        fulmen.trace(lambda x, o: torch.add(x, 1, out=o))(x, torch.zeros_like(X))
    with torch.no_grad():
        fulmen.trace(lambda x, o: torch.add(x, 1, out=o))(x, torch.zeros_like(X))


def test_sizes_that_depend_on_values() -> None:
    index = torch.tensor([0, 2, 1])
    trace = fulmen.trace(F.one_hot)(index)
    assert trace.output.shape[0] == 3 and not isinstance(trace.output.shape[1], int)
    got, *_ = run(F.one_hot, index)
    assert torch.equal(got, F.one_hot(index))
    with pytest.raises(DataDependentError):
        fulmen.trace(torch.tensor_split)(X, torch.tensor([1]))


def test_constants_are_not_recorded() -> None:
    trace = fulmen.trace(lambda x: x.to(torch.device("cpu")) + 1)(X)
    assert [b.symbol.name for b in trace.bound_symbols] == ["add"]
