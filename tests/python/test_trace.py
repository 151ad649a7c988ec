"""fulmen.trace: the recorded program, its inputs and their names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fulmen
from fulmen.errors import DataDependentError, UserError

X = torch.arange(6.0).reshape(2, 3)


def names(trace: fulmen.Trace) -> list[str]:
    return [b.symbol.name for b in trace.bound_symbols]


def input_names(trace: fulmen.Trace) -> list[str]:
    return [p.name for p in trace.inputs]


def run(trace: fulmen.Trace, *args: Any) -> Any:
    """The trace's result on positional inputs."""
    report = fulmen._core.ClaimReport()
    program = fulmen._core.build_program(fulmen._core.transform_for_execution(trace, report))
    dispatch = fulmen._core.Dispatch(lambda *args: pytest.fail("the program refuses its inputs"))
    dispatch.add(program, (None,) * len(args), ())
    return dispatch(*args)


def test_inputs_are_named_like_the_parameters() -> None:
    def fn(x: torch.Tensor, weight: torch.Tensor, *, bias: Any = None) -> torch.Tensor:
        return x * weight + bias

    trace = fulmen.trace(fn)(X, X + 1, bias=X + 2)
    assert input_names(trace)[:2] == ["x", "weight"]
    assert "bias" in input_names(trace)[2]
    assert names(trace) == ["mul", "add"]


def test_nested_inputs() -> None:
    def fn(data: Any) -> torch.Tensor:
        a, (b, c) = data["pair"]
        return a + b * c

    trace = fulmen.trace(fn)({"pair": (X, [X + 1, X + 2]), "n": 3})
    assert len(trace.inputs) == 3
    assert all(name.startswith("data_pair") for name in input_names(trace))
    assert torch.equal(run(trace, X, X + 1, X + 2), X + (X + 1) * (X + 2))


def test_module_parameters_become_inputs() -> None:
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.BatchNorm1d(4)
    ).eval()
    trace = fulmen.trace(net)(X)
    assert "0_weight" in " ".join(input_names(trace)) and len(trace.inputs) == 7
    assert names(trace) == ["linear", "relu", "batch_norm"]
    got = run(trace, X, net[0].weight, net[0].bias, net[2].running_mean, net[2].running_var,
              net[2].weight, net[2].bias)  # fmt: skip
    assert torch.equal(got, net(X))


def test_constants_are_inputs() -> None:
    table = torch.tensor([1.0, 2.0, 3.0])
    trace = fulmen.trace(lambda x: x * table + table)(X)
    assert len(trace.inputs) == 2, "one tensor, captured once"
    assert torch.equal(run(trace, X, table), X * table + table)


def test_the_same_tensor_twice_is_one_input() -> None:
    trace = fulmen.trace(lambda x, y: x + y)(X, X)
    assert len(trace.inputs) == 1


def test_proxies_pass_for_tensors() -> None:
    seen: dict[str, Any] = {}

    def fn(x: torch.Tensor) -> torch.Tensor:
        seen.update(
            instance=isinstance(x, torch.Tensor), shape=x.shape, size=x.size(1), dtype=x.dtype,
            device=x.device, dim=x.dim(), numel=x.numel(), length=len(x), stride=x.stride(),
            contiguous=x.t().is_contiguous(), floating=torch.is_floating_point(x),
            rows=len(list(x)), grad=x.requires_grad, leaf=x.is_leaf, layout=x.layout,
        )  # fmt: skip
        return x

    fulmen.trace(fn)(X)
    assert seen == {
        "instance": True, "shape": X.shape, "size": 3, "dtype": X.dtype, "device": X.device,
        "dim": 2, "numel": 6, "length": 2, "stride": (3, 1), "contiguous": False,
        "floating": True, "rows": 2, "grad": False, "leaf": True, "layout": torch.strided,
    }  # fmt: skip


@pytest.mark.parametrize(
    "use",
    [
        lambda x: 1 if x.sum() > 0 else 0,
        lambda x: bool(x[0, 0]),
        lambda x: not x.any(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.sum() and x,
    ],
)
def test_a_tensors_value_is_not_known(use: Any) -> None:
    with pytest.raises(DataDependentError) as info:
        fulmen.trace(lambda x: use(x))(X)
    assert info.value.id == "data-dependent"
    assert isinstance(info.value, RuntimeError) and isinstance(info.value, UserError)


def test_data_dependent_errors_name_the_users_line() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        if y.sum() > 0:  # the line
            return y
        return x

    with pytest.raises(DataDependentError) as info:
        fulmen.trace(fn)(X)
    line = fn.__code__.co_firstlineno + 2
    assert f"[{Path(__file__).name}:{line} in fn]" in str(info.value)


def test_in_place_and_out() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y.mul_(2)
        out = torch.empty_like(y)
        torch.add(y, x, out=out)
        out[0] = 0
        return out

    trace = fulmen.trace(fn)(X)
    assert torch.equal(run(trace, X), fn(X))


def test_mutated_input() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    trace = fulmen.trace(fn)(X.clone())
    mine, plain = X.clone(), X.clone()
    assert torch.equal(run(trace, mine), fn(plain))
    assert torch.equal(mine, plain)


def test_tracing_runs_nothing() -> None:
    x = X.clone()
    state = torch.get_rng_state()
    fulmen.trace(lambda x: torch.nn.functional.dropout(x.add_(1)) + torch.rand(3))(x)
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), state)


def test_results_keep_their_structure() -> None:
    trace = fulmen.trace(lambda x: {"a": (x + 1, [x, None]), "n": 4})(X)
    got = run(trace, X)
    assert torch.equal(got["a"][0], X + 1) and got["a"][1][0] is X
    assert got["a"][1][1] is None and got["n"] == 4


def test_source_lines() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        return y.relu()

    bsyms = fulmen.trace(fn)(X).bound_symbols
    first = fn.__code__.co_firstlineno
    assert [(Path(b.source[0]).name, b.source[1], b.source[2]) for b in bsyms] == [
        (Path(__file__).name, first + 1, "fn"),
        (Path(__file__).name, first + 2, "fn"),
    ]


def test_a_proxy_does_not_outlive_its_trace() -> None:
    kept: list[Any] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        kept.append(x + 1)
        return kept[-1]

    fulmen.trace(fn)(X)
    with pytest.raises(RuntimeError) as info:
        kept[0] * 2
    assert info.value.id == "proxy-outside-trace"
    with pytest.raises(RuntimeError) as info:
        fulmen.trace(lambda x: x + kept[0])(X)
    assert info.value.id == "foreign-proxy"


def test_an_error_ends_the_trace() -> None:
    with pytest.raises(RuntimeError):
        fulmen.trace(lambda x: x @ x)(X)
    assert torch.equal(X + 1, X.add(1)), "torch works as before"
    assert names(fulmen.trace(lambda x: x + 1)(X)) == ["add"]


def test_traces_inside_traces() -> None:
    inner: list[Any] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        inner.append(fulmen.trace(lambda y: y * 2)(X))
        return x + 1

    outer = fulmen.trace(fn)(X)
    assert names(outer) == ["add"] and names(inner[0]) == ["mul"]


def test_introspection() -> None:
    trace = fulmen.trace(lambda x: torch.sum(x.relu(), dim=1))(X)
    relu, total = trace.bound_symbols
    assert relu.symbol == fulmen._core.find_symbol("relu")
    assert total.args[0].name == relu.output.name
    assert total.output.shape == (2,)
    assert len(trace) == 2 and trace.name == "computation"
    assert trace.output.name == total.output.name


def test_str_is_a_program_that_runs() -> None:
    trace = fulmen.trace(lambda x: torch.softmax(x @ x.t(), dim=-1))(X)
    scope: dict[str, Any] = {}
    exec(str(trace), scope)
    assert torch.equal(scope["computation"](X), torch.softmax(X @ X.t(), dim=-1))


def test_parse_trace() -> None:
    trace = fulmen.trace(lambda x, y: {"a": (x @ y.t(), [x.sum(), 3])})(X, X)
    parsed = fulmen.parse_trace(str(trace))
    assert parsed.equals(trace, names=True) and parsed.hash() == trace.hash()
    assert torch.equal(run(parsed, X)["a"][0], X @ X.t())
    other = fulmen.parse_trace(str(trace).replace("torch.sum", "torch.mean"))
    assert not other.equals(trace) and other.hash() != trace.hash()


def test_the_hash_is_the_same_in_every_process() -> None:
    text = "def f(x):\n  # x: f32[2, 3]\n  y = torch.add(x, 1.5, alpha=2)\n  return (y, None)\n"
    program = f"import fulmen; print(fulmen.parse_trace({text!r}).hash())"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True
    )
    assert int(printed.stdout) == fulmen.parse_trace(text).hash()
    assert fulmen.parse_trace(text.replace("y", "z").replace("f(", "g(")).hash() == int(
        printed.stdout
    ), "names do not count"


def test_parse_trace_names_the_line() -> None:
    with pytest.raises(ValueError) as info:
        fulmen.parse_trace("def f(x):\n  # x: f32[2]\n  y = torch.nothing x\n  return y\n")
    assert info.value.id == "trace-syntax" and "line 3" in str(info.value)


def test_objects_of_a_trace() -> None:
    generator = torch.Generator().manual_seed(3)
    trace = fulmen.trace(lambda x: torch.bernoulli(x / 6, generator=generator))(X)
    (name,) = trace.constants
    assert trace.constants == {name: generator} and f"generator={name}" in str(trace)
    parsed = fulmen.parse_trace(str(trace), {name: generator})
    assert parsed.equals(trace, names=True)
    got = run(parsed, X)
    assert torch.equal(got, torch.bernoulli(X / 6, generator=generator.manual_seed(3)))
    with pytest.raises(ValueError) as info:
        run(fulmen.parse_trace(str(trace)), X)
    assert info.value.id == "constant-without-object" and name in str(info.value)
    with pytest.raises(ValueError, match=f"`{name}` is not defined"):
        fulmen.parse_trace(str(trace), {})


def test_a_result_in_a_dict_is_a_program() -> None:
    text = """import torch
import fulmen

def f(x, y):
  # x: f32[2, 3]
  # y: f32[2, 3]
  match fulmen.fallback.call(make, x, y):
    case {'sum': t0, 3: (t1, [_, _])}: pass  # t0: f32[2, 3], t1: f32[2, 3], _: t0, _: 5, opaque
  t2 = torch.sub(t0, t1)  # t2: f32[2, 3]
  return {'a': t2, 'b': (t0,)}
"""

    def make(x: torch.Tensor, y: torch.Tensor) -> Any:
        total = x + y
        return {"sum": total, 3: (x * y, [total, 5])}

    trace = fulmen.parse_trace(text, {"make": make})
    assert str(trace) == text
    scope: dict[str, Any] = {"make": make}
    exec(text, scope)
    expected = scope["f"](X, X + 1)
    assert torch.equal(expected["a"], X + X + 1 - X * (X + 1))
    got = run(trace, X, X + 1)
    assert torch.equal(got["a"], expected["a"]) and torch.equal(got["b"][0], expected["b"][0])


def test_symbols_are_functions() -> None:
    x = X.clone().requires_grad_()
    got = fulmen.symbols.gelu(x, approximate="tanh")
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    assert torch.equal(got, expected) and got.grad_fn is not None
    values, indices = fulmen.symbols.max.dim(X, dim=1)
    assert values.tolist() == [2, 5] and indices.tolist() == [2, 2]
    assert names(fulmen.trace(lambda x: fulmen.symbols.gelu(x) + 1)(X)) == ["gelu", "add"]
    with pytest.raises(AttributeError, match="no symbol 'nothing'"):
        fulmen.symbols.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"no symbol 'max\.nothing'"):
        fulmen.symbols.max.nothing  # noqa: B018
    assert "gelu" in dir(fulmen.symbols)


def test_a_symbol_by_its_own_name_in_text() -> None:
    text = """import torch
import fulmen

def f(x):
  # x: f32[2, 3]
  y = fulmen.symbols.gelu(x)
  return y
"""
    trace = fulmen.parse_trace(text)
    assert names(trace) == ["gelu"]
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert torch.equal(scope["f"](X), run(trace, X))
