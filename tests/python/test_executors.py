"""Executors, operators and kernels of users: who runs what, and what happens where they are wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import _core, extend, symbols
from fulmen import executors as registry
from fulmen.executor import _registry
from fulmen.extend import (
    FusionExecutor,
    OperatorExecutor,
    StatefulExecutor,
    get_executor,
    get_grad,
    put_grad,
    python_callable,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ex() -> OperatorExecutor:
    return OperatorExecutor("mine")


@pytest.fixture(autouse=True)
def _same_executors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests leave the registry and the default list as they were."""
    monkeypatch.setattr(registry, "_defaults", None)
    before = {e.name: e for e in extend.get_all_executors()}
    yield
    _registry.clear()
    _registry.update(before)
    monkeypatch.undo()


def claims_of(fn: Any, symbol: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [(c.executor, c.refusals) for c in fulmen.examine.executors(fn).of(symbol)]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b)


# --- The list of executors ----------------------------------------------------------------------


def test_a_misspelt_name_says_what_there_is() -> None:
    with pytest.raises(fulmen.UserError, match="no executor 'fusoin'; did you mean 'fusion'") as e:
        fulmen.jit(torch.sin, executors=["fusoin"])
    assert isinstance(e.value, ValueError) and e.value.id == "unknown-executor"
    for name in ("aten", "python", "torch_compile", "sdpa", "custom_op"):
        assert repr(name) in str(e.value)


@pytest.mark.parametrize("given", ["aten", [3], torch.sin])
def test_what_is_no_list_of_executors(given: Any) -> None:
    with pytest.raises(TypeError, match="executor"):
        fulmen.jit(torch.sin, executors=given)


def test_default_executors(ex: OperatorExecutor) -> None:
    extend.register_executor(ex)
    assert ex in extend.get_all_executors()
    extend.set_default_executors(["custom_op"])
    extend.add_default_executor("mine")
    assert [e.name for e in extend.get_default_executors()] == ["mine", "custom_op"]
    f = fulmen.jit(lambda x: x + 1)
    extend.remove_default_executor(ex)
    assert [e.name for e in extend.get_default_executors()] == ["custom_op"]
    f(torch.ones(2))
    # The list is taken when fulmen.jit is called.
    assert "mine" in fulmen.examine.executors(f).executors
    extend.deregister_executor("mine")
    with pytest.raises(ValueError, match="no executor 'mine'"):
        get_executor("mine")


def test_the_environment_names_the_default_executors() -> None:
    _core.set_flag("executors", "sdpa,custom_op")
    try:
        assert [e.name for e in extend.get_default_executors()] == ["sdpa", "custom_op"]
        _core.set_flag("executors", "sdap")
        with pytest.raises(ValueError, match="did you mean 'sdpa'"):
            fulmen.jit(torch.sin)
    finally:
        _core.set_flag("executors", "")


def test_names_that_are_taken_or_none() -> None:
    with pytest.raises(ValueError, match="built in"):
        extend.register_executor(OperatorExecutor("aten"))
    with pytest.raises(ValueError, match="expected a Python identifier"):
        OperatorExecutor("my executor")
    with pytest.raises(ValueError, match="is built in"):
        extend.deregister_executor("sdpa")
    with pytest.raises(TypeError, match="expected an OperatorExecutor"):
        extend.register_executor(torch.sin)  # type: ignore[arg-type]


def test_a_compiler_of_dynamo_takes_executors(ex: OperatorExecutor) -> None:
    double = ex.register_operator("sin", like=torch.sin, fn=lambda x: torch.sin(x))
    ex.register_implementation(torch.sin, double)
    compiler = fulmen.dynamo.FulmenCompiler(executors=[ex])
    f = torch.compile(lambda x: torch.sin(x) + 1, backend=compiler)
    close(f(torch.ones(3)), torch.sin(torch.ones(3)) + 1)
    assert claims_of(compiler, "sin") == [("mine", ())]


# --- Claims -------------------------------------------------------------------------------------


def make(name: str, log: list[str], checker: Any = None) -> OperatorExecutor:
    """An executor that runs torch.sin."""
    made = OperatorExecutor(name)

    def run(x: torch.Tensor) -> torch.Tensor:
        log.append(name)
        return torch.sin(x)

    made.register_implementation(
        torch.sin, made.register_operator("sin", like=torch.sin, fn=run), checker=checker
    )
    return made


def test_the_first_executor_that_takes_a_call_runs_it() -> None:
    log: list[str] = []
    a, b = make("a", log), make("b", log)
    x = torch.randn(3)
    for given, expected in (([a, b], "a"), ([b, a], "b"), (["aten", a], "aten")):
        log.clear()
        f = fulmen.jit(lambda x: torch.sin(x) * 2, executors=given)
        close(f(x), torch.sin(x) * 2)
        assert claims_of(f, "sin")[0][0] == expected
        assert log == ([] if expected == "aten" else [expected])


def test_refusals_are_reported_in_order() -> None:
    log: list[str] = []
    a = make("a", log, lambda x: x.ndim == 1)
    b = make("b", log, lambda x: x.dtype == torch.float64 or "it takes float64")
    f = fulmen.jit(lambda x: torch.sin(x), executors=[a, b])
    f(torch.ones(2, 2))
    assert claims_of(f, "sin") == [
        ("aten", (("a", "its checker refuses these arguments"), ("b", "it takes float64")))
    ]
    assert fulmen.stats(f).refusals["sin"].startswith("a: its checker refuses")
    assert log == []
    text = str(fulmen.examine.executors(f))
    assert "aten           t0 = sin(…)" in text and "b: it takes float64" in text


def test_a_checker_sees_the_call_as_it_was_made(ex: OperatorExecutor) -> None:
    seen: list[Any] = []

    def checker(*args: Any, **kwargs: Any) -> bool:
        seen.append((len(args), kwargs))
        return False

    op = ex.register_operator("gelu", like=F.gelu, fn=lambda a, approximate="none": a)
    ex.register_implementation(F.gelu, op, checker=checker)
    fulmen.jit(lambda x: F.gelu(x), executors=[ex])(torch.ones(2))
    fulmen.jit(lambda x: F.gelu(x, approximate="tanh"), executors=[ex])(torch.ones(2))
    assert seen == [(1, {}), (1, {"approximate": "tanh"})]


def test_arguments_that_an_operator_lacks_are_a_refusal(ex: OperatorExecutor) -> None:
    op = ex.register_operator("gelu", like=F.gelu, fn=lambda a: F.gelu(a))
    ex.register_implementation(F.gelu, op)
    f = fulmen.jit(lambda x: F.gelu(x, approximate="tanh"), executors=[ex])
    close(f(torch.ones(2)), F.gelu(torch.ones(2), approximate="tanh"))
    ((executor, refusals),) = claims_of(f, "gelu")
    assert executor == "aten" and "unexpected keyword argument" in refusals[0][1]


def test_a_checker_that_raises_is_named(ex: OperatorExecutor) -> None:
    op = ex.register_operator("sin", like=torch.sin, fn=lambda x: torch.sin(x))
    ex.register_implementation(torch.sin, op, checker=lambda x: x.no_such_thing)
    with pytest.raises(fulmen.UserError, match=r"executor mine: the checker for sin\(\) raised"):
        fulmen.jit(lambda x: torch.sin(x), executors=[ex])(torch.ones(2))


def test_what_nobody_runs_is_decomposed_and_offered_again(ex: OperatorExecutor) -> None:
    log: list[Any] = []

    def attention(q: Any, k: Any, v: Any) -> Any:
        log.append(q.shape)
        return torch.softmax(q @ k.transpose(-2, -1), -1) @ v

    # A region's own function has no kernel of ATen's: what it decomposes into is offered.
    outer = OperatorExecutor("outer")
    op = outer.register_operator("two", like=lambda x: torch.sin(x) * 2, fn=lambda x: x)
    inner = make("inner", log)
    del attention, ex
    symbol = _core.find_symbol("outer.two")
    assert symbol is not None and symbol.has_decomposition
    f = fulmen.jit(lambda x: op(x), executors=[inner])
    # An operator has a kernel of its own: it is not taken apart.
    assert torch.equal(f(torch.ones(2)), torch.ones(2)) and log == []

    def two_steps(x: Any) -> Any:
        return torch.sin(x) * 2

    def gradient(x: Any) -> Any:
        out = torch.sin(x) * 2
        put_grad(x, get_grad(out) * torch.cos(x) * 2)
        return out

    outer.register_implementation(
        torch.exp, execution_transform=two_steps, grad_transform=gradient
    )
    x = torch.randn(3, requires_grad=True)
    g = fulmen.jit(lambda x: torch.exp(x).sum(), executors=[outer, inner])
    close(g(x), (torch.sin(x) * 2).sum())
    assert log == ["inner"]
    assert claims_of(g, "exp_own")[0][0] == ""
    assert [c for c, _ in claims_of(g, "sin")] == ["inner"]


def test_composites_without_a_kernel_reach_executors_by_their_parts() -> None:
    log: list[str] = []
    a = make("a", log)
    x = torch.randn(4)
    trace = fulmen.trace(lambda x: torch.special.sinc(x))(x)
    bsym = trace.bound_symbols[-1]
    kernelless = [b for b in bsym.subsymbols if b.symbol.name == "sin"]
    f = fulmen.jit(lambda x: torch.special.sinc(x), executors=[a])
    close(f(x), torch.special.sinc(x))
    # ATen has a kernel for the whole, and is asked about the whole first.
    assert claims_of(f, bsym.symbol.name)[0][0] == "aten" and log == []
    del kernelless


def test_views_and_writes_stay_with_pytorch(ex: OperatorExecutor) -> None:
    op = ex.register_operator("t", like=lambda x: x.t().clone(), fn=lambda x: x.t().clone())
    ex.register_implementation(torch.t, op)
    x = torch.randn(3, 2)
    f = fulmen.jit(lambda x: torch.t(x), executors=[ex])
    y = f(x)
    assert y.data_ptr() == x.data_ptr()
    assert "a view" in claims_of(f, "t")[0][1][0][1]


def test_execution_transform(ex: OperatorExecutor) -> None:
    ex.register_implementation(
        F.silu, execution_transform=lambda x, inplace=False: x * torch.sigmoid(x)
    )
    # The symbol itself in what takes its place is for others.
    ex.register_implementation(torch.cos, execution_transform=lambda x: torch.cos(x + 0) * 1)
    x = torch.randn(5)
    f = fulmen.jit(lambda x: F.silu(x) + torch.cos(x), executors=[ex])
    close(f(x), F.silu(x) + torch.cos(x))
    assert [c for c, _ in claims_of(f, "silu")] == ["mine"]
    assert [c for c, _ in claims_of(f, "cos")] == ["mine", "aten"]
    assert [c for c, _ in claims_of(f, "sigmoid")] == ["aten"]


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (lambda x: x, "returned an argument"),
        (lambda x: x.sum(), "returned f32\\[\\]; expected f32\\[3\\]"),
        (lambda x: (torch.sin(x), x), "another structure"),
        (lambda x: torch.sin(x).double(), "expected f32"),
    ],
)
def test_a_transform_gives_what_the_symbol_gives(
    ex: OperatorExecutor, transform: Any, text: str
) -> None:
    ex.register_implementation(torch.sin, execution_transform=transform)
    with pytest.raises(fulmen.UserError, match=text) as e:
        fulmen.jit(lambda x: torch.sin(x), executors=[ex])(torch.ones(3))
    assert e.value.id == "executor-rule" and "test_executors.py" in str(e.value)


def test_what_can_not_be_registered(ex: OperatorExecutor) -> None:
    with pytest.raises(ValueError, match="there is no symbol 'sinn'"):
        ex.register_implementation("sinn", execution_transform=torch.sin)
    with pytest.raises(TypeError, match="one of op and execution_transform"):
        ex.register_implementation(torch.sin)
    with pytest.raises(TypeError, match="one of like= and meta="):
        ex.register_operator("a", fn=lambda x: x)
    with pytest.raises(TypeError, match="named parameters only"):
        ex.register_operator("a", fn=lambda *x: x, like=torch.sin)
    with pytest.raises(TypeError, match="expected None, a number or a word"):
        ex.register_operator("a", fn=lambda x, y=[]: x, like=torch.sin)  # noqa: B006
    with pytest.raises(ValueError, match="got tag 'fast'; expected one of pure"):
        ex.register_operator("a", fn=lambda x: x, like=torch.sin, tags=["fast"])
    with pytest.raises(ValueError, match="expected a Python identifier"):
        ex.register_operator("a b", fn=lambda x: x, like=torch.sin)


# --- Operators ----------------------------------------------------------------------------------


def test_an_operator_runs_traced_and_eagerly(ex: OperatorExecutor) -> None:
    op = ex.register_operator(
        "pair",
        meta=lambda x, *, k=2: (torch.empty_like(x), x.new_empty((x.shape[0], k))),
        fn=lambda x, *, k=2: (x + 1, x.sum(1, keepdim=True).repeat(1, k)),
    )
    x = torch.randn(3, 4)
    expected = op(x, k=3)

    def fn(x: Any) -> Any:
        a, b = op(x, k=3)
        return a * 2, b

    for given in ([], [ex]):
        f = fulmen.jit(fn, executors=given, fullgraph=True)
        a, b = f(x)
        close(a, expected[0] * 2)
        close(b, expected[1])
        assert claims_of(f, "mine.pair")[0][0] == ("mine" if given else "python")
    trace = fulmen.trace(fn)(x)
    assert "fulmen.symbols.mine.pair(x, k=3)" in str(trace)
    assert fulmen.parse_trace(str(trace)).equals(trace)
    close(python_callable(trace)(x)[0], expected[0] * 2)
    close(symbols.mine.pair(x)[1], op(x)[1])  # type: ignore[attr-defined]


def test_an_operator_can_be_defined_again(ex: OperatorExecutor) -> None:
    ex.register_operator("one", like=torch.sin, fn=lambda x: x + 1)
    op = ex.register_operator("one", like=torch.sin, fn=lambda x: x + 2)
    assert float(fulmen.jit(lambda x: op(x))(torch.zeros(()))) == 2


def test_replaces(ex: OperatorExecutor) -> None:
    def table(x: torch.Tensor, k: int = 2) -> torch.Tensor:
        raise AssertionError("it is not looked into")

    op = ex.register_operator(
        "scaled", meta=lambda x, k=2: torch.empty_like(x), fn=lambda x, k=2: x * k, replaces=table
    )

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return table(x + self.w.detach(), k=3) + table(x)

    f = fulmen.jit(Model(), executors=[ex], fullgraph=True)
    close(f(torch.ones(3)), torch.full((3,), 8.0))
    assert fulmen.stats(f).kernels["mine"] == 2
    assert op is ex.operators["scaled"]


def test_operators_and_writes_in_place(ex: OperatorExecutor) -> None:
    op = ex.register_operator("plus", like=lambda x: x + 1, fn=lambda x: x + 1)

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = op(x)
        x.mul_(2)
        z = op(x)
        y.add_(z)
        return y

    x, other = torch.ones(3), torch.ones(3)
    f = fulmen.jit(fn, executors=[ex])
    close(f(x), fn(other))
    close(x, other)
    assert fulmen.stats(f).splits == {}


def test_random_operators_are_never_merged(ex: OperatorExecutor) -> None:
    tags = {"draw": ("random",), "pure": ("pure",)}
    for name, given in tags.items():
        ex.register_operator(
            name, meta=lambda x: torch.empty_like(x), fn=lambda x: torch.rand_like(x), tags=given
        )
    f = fulmen.jit(lambda x: (ex.operators["draw"](x), ex.operators["draw"](x)))
    a, b = f(torch.ones(8))
    assert not torch.equal(a, b)
    f = fulmen.jit(lambda x: (ex.operators["pure"](x) + 0, ex.operators["pure"](x) + 1))
    a, b = f(torch.ones(8))
    close(a + 1, b)


def test_state_belongs_to_one_use() -> None:
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            self.n += 1
            return x + self.n

    ex = StatefulExecutor("counting")
    count = ex.register_stateful_operator("count", Counter, meta=lambda x: torch.empty_like(x))
    for given in ([], [ex]):
        f = fulmen.jit(lambda x: (count(x), count(x)), executors=given)
        zero = torch.zeros(())
        assert [[int(v) for v in f(zero)] for _ in range(3)] == [[1, 1], [2, 2], [3, 3]]
        again = fulmen.jit(lambda x: count(x), executors=given)
        assert int(again(zero)) == 1


# --- What users' functions do wrong -------------------------------------------------------------


def bad(ex: OperatorExecutor, fn: Callable[..., Any], **rules: Any) -> Callable[..., Any]:
    rules = rules or {"meta": lambda x: torch.empty_like(x)}
    return ex.register_operator("bad", fn=fn, **rules)


def write(x: torch.Tensor) -> torch.Tensor:
    x.add_(1)
    return x + 1


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (lambda x: x[:2], r"returned f32\[2\]; its metadata says f32\[3\]"),
        (lambda x: x.double(), r"returned f64\[3\]; its"),
        (lambda x: (x, x), "returned tuple; its metadata says one tensor"),
        (lambda x: None, "returned NoneType"),
        (write, "wrote to an argument"),
    ],
)
def test_an_implementation_keeps_to_its_metadata(ex: OperatorExecutor, fn: Any, text: str) -> None:
    op = bad(ex, fn)
    with pytest.raises(fulmen.UserError, match=text) as e:
        fulmen.jit(lambda x: op(x) * 2)(torch.ones(3))
    assert e.value.id == "executor-kernel"
    assert "mine.bad()" in str(e.value) and "test_executors.py" in str(e.value)


def test_results_get_the_layout_and_storage_that_metadata_says(ex: OperatorExecutor) -> None:
    op = bad(ex, lambda x: x)
    x = torch.ones(3)
    y = fulmen.jit(lambda x: op(x))(x)
    y.add_(1)
    assert torch.equal(x, torch.ones(3))
    op = bad(ex, lambda x: (x.t() + 1).t())
    x = torch.randn(3, 4)
    y = fulmen.jit(lambda x: op(x).view(12))(x)
    close(y, (x + 1).view(12))


def test_an_implementation_that_raises(ex: OperatorExecutor) -> None:
    def boom(x: Any) -> Any:
        raise ValueError("boom")

    op = bad(ex, boom, like=torch.sin)
    ex.register_implementation(torch.cos, op)
    for fn in (lambda x: op(x) + 1, lambda x: torch.cos(x) + 1):
        for x in (torch.ones(2), torch.ones(2, requires_grad=True)):
            # Eager PyTorch, which knows no executors, would hide the second.
            with pytest.raises(ValueError, match=r"mine.bad\(\) raised ValueError: boom .*py:") as e:
                fulmen.jit(fn, executors=[ex])(x)
            assert isinstance(e.value.__cause__, ValueError)


def test_a_meta_function_that_raises(ex: OperatorExecutor) -> None:
    def meta(x: Any) -> Any:
        raise KeyError("shape")

    op = bad(ex, lambda x: x + 1, meta=meta)
    with pytest.raises(fulmen.UserError, match=r"meta function of mine.bad\(\) raised KeyError") as e:
        fulmen.jit(lambda x: op(x))(torch.ones(2))
    assert e.value.id == "operator-meta" and "test_executors.py" in str(e.value)


# --- Gradients ----------------------------------------------------------------------------------


def gradients(fn: Any, *inputs: torch.Tensor) -> Any:
    result = fn(*inputs)
    return result, torch.autograd.grad(result.square().sum(), inputs)


def test_an_implementation_has_the_gradient_of_its_symbol(ex: OperatorExecutor) -> None:
    log: list[str] = []

    def run(a: torch.Tensor, *, approximate: str = "none") -> torch.Tensor:
        log.append("run")
        with torch.no_grad():
            return F.gelu(a, approximate=approximate)

    ex.register_implementation(F.gelu, ex.register_operator("gelu", like=F.gelu, fn=run))
    x = torch.randn(3, 4, requires_grad=True)
    for fn in (lambda x: F.gelu(x), lambda x: F.gelu(x * 2, approximate="tanh") @ x.t()):
        log.clear()
        ours, theirs = gradients(fulmen.jit(fn, executors=[ex]), x), gradients(fn, x)
        close(ours[0], theirs[0])
        close(ours[1][0], theirs[1][0])
        assert log == ["run"]


def test_an_operator_has_the_gradient_of_what_it_is_like(ex: OperatorExecutor) -> None:
    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.detach().numpy() * w.detach().numpy()).sin()

    op = ex.register_operator("f", like=lambda x, w: torch.sin(x * w), fn=run)
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    for given in ([], [ex]):
        f = fulmen.jit(lambda x, w: op(x, w), executors=given)
        ours, theirs = gradients(f, x, w), gradients(lambda x, w: torch.sin(x * w), x, w)
        close(ours[0], theirs[0])
        for a, b in zip(ours[1], theirs[1], strict=True):
            close(a, b)


def make_own(log: list[str]) -> OperatorExecutor:
    """sin with a gradient that is twice the right one."""
    ex = OperatorExecutor("own")

    def meta(x: Any) -> Any:
        return torch.empty_like(x), torch.empty_like(x)

    def run(x: torch.Tensor) -> Any:
        log.append("forward")
        return torch.sin(x), 2 * torch.cos(x)

    def run_backward(g: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        log.append("backward")
        return g * c

    forward = ex.register_operator("forward", meta=meta, fn=run)
    backward = ex.register_operator(
        "backward", meta=lambda g, c: torch.empty_like(g), fn=run_backward
    )

    def gradient(x: Any) -> Any:
        out, c = forward(x)
        put_grad(x, backward(get_grad(out), c))
        return out

    ex.register_implementation(
        torch.sin, execution_transform=lambda x: forward(x)[0], grad_transform=gradient
    )
    return ex


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.sin(x),
        lambda x: torch.sin(x * 1) * 1,
        lambda x: torch.sin(x.t()).t(),
        lambda x: torch.sin(torch.sin(x) + 1).sum(0),
    ],
)
def test_an_own_gradient(fn: Any) -> None:
    log: list[str] = []
    ex = make_own(log)
    x = torch.randn(3, 4, requires_grad=True, dtype=torch.float64)

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * 2 * torch.cos(*ctx.saved_tensors)

    f = fulmen.jit(fn, executors=[ex])
    ours = gradients(f, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "sin", Twice.apply)
        theirs = gradients(fn, x)
    close(ours[0], theirs[0])
    close(ours[1][0], theirs[1][0])
    assert log.count("forward") == log.count("backward") > 0
    log.clear()
    with torch.no_grad():
        close(f(x), fn(x))
    assert set(log) == {"forward"}


def test_an_own_gradient_of_several_results(ex: OperatorExecutor) -> None:
    def gradient(x: Any, dim: Any = None) -> Any:
        values, indices = torch.ops.aten.sort(x) if dim is None else x.sort(dim)
        put_grad(x, torch.zeros_like(x).scatter(-1, indices, get_grad(values) * 3))
        return values, indices

    ex.register_implementation(
        "sort",
        execution_transform=lambda x, dim=-1, descending=False: torch.sort(x * 1, dim, descending),
        grad_transform=lambda x, dim=-1, descending=False: gradient(x, dim),
    )
    x = torch.randn(3, 4, requires_grad=True)
    f = fulmen.jit(lambda x: torch.sort(x)[0] * 1, executors=[ex])
    ours, theirs = gradients(f, x), gradients(lambda x: torch.sort(x)[0], x)
    close(ours[0], theirs[0])
    close(ours[1][0], 3 * theirs[1][0])


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (lambda x: get_grad(torch.sin(x)) * 1, "depends on a gradient"),
        (lambda x: get_grad(torch.sin(x)), "returned an argument"),
        (lambda x: (put_grad(torch.cos(x), x), torch.sin(x))[1], "no argument"),
    ],
)
def test_a_wrong_grad_transform(ex: OperatorExecutor, transform: Any, text: str) -> None:
    ex.register_implementation(
        torch.sin, execution_transform=lambda x: torch.sin(x) * 1, grad_transform=transform
    )
    with pytest.raises(fulmen.UserError, match=text):
        fulmen.jit(lambda x: torch.sin(x) * 2, executors=[ex])(torch.ones(3, requires_grad=True))
    with pytest.raises(fulmen.UserError, match="outside of a grad_transform"):
        get_grad(torch.ones(3))


def test_an_operator_without_a_gradient_says_so(ex: OperatorExecutor) -> None:
    numpy = ex.register_operator(
        "np", meta=lambda x: torch.empty_like(x), fn=lambda x: torch.tensor(x.tolist())
    )
    torch_made = ex.register_operator("th", meta=lambda x: torch.empty_like(x), fn=lambda x: x * 3)
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(fulmen.UserError, match="without a gradient"):
        fulmen.jit(lambda x: numpy(x) * 2)(x)
    fulmen.jit(lambda x: numpy(x.detach()) * 2)(x)
    # PyTorch's autograd sees through it.
    close(torch.autograd.grad(fulmen.jit(lambda x: torch_made(x) * 2)(x).sum(), x)[0], x * 0 + 6)


def test_second_gradients_of_what_pytorch_can_not_see(ex: OperatorExecutor) -> None:
    run = ex.register_operator(
        "np", like=torch.sin, fn=lambda x: torch.tensor(torch.sin(x).tolist())
    )
    x = torch.randn(3, requires_grad=True)
    y = fulmen.jit(lambda x: run(x) * 2)(x)
    (g,) = torch.autograd.grad(y.sum(), x)
    close(g, 2 * torch.cos(x.detach()))
    with pytest.raises(RuntimeError, match="without a gradient"):
        torch.autograd.grad(fulmen.jit(lambda x: run(x) * 2)(x).sum(), x, create_graph=True)


# --- Fusion executors ---------------------------------------------------------------------------


class Recorded(FusionExecutor):
    """Runs regions as PyTorch would, and keeps them."""

    def __init__(self, name: str = "recorded", names: tuple[str, ...] = ("sin", "mul", "add")):
        super().__init__(name)
        self.names = names
        self.regions: list[list[str]] = []

    def can_fuse(self, bsym: fulmen.BoundSymbol) -> bool | str:
        return bsym.symbol.name in self.names

    def fuse(self, region: fulmen.Trace) -> Callable[..., Any]:
        self.regions.append([b.symbol.name for b in region.bound_symbols])
        return python_callable(region)


def test_a_fusion_executor_gets_regions() -> None:
    ex = Recorded()
    x = torch.randn(4, 4)
    fn = lambda x: (torch.sin(x) * 2 + 1).relu() * torch.sin(x[0])  # noqa: E731
    f = fulmen.jit(fn, executors=[ex])
    close(f(x), fn(x))
    assert sorted(map(sorted, ex.regions)) == [["add", "mul", "sin"], ["mul", "sin"]]
    assert fulmen.stats(f).kernels["recorded"] == 2
    refusals = claims_of(f, "relu")[0][1]
    assert refusals == (("recorded", "it fuses no such operation"),)
    assert {c for c, _ in claims_of(f, "sin")} == {"recorded"}


def test_regions_of_forward_and_backward() -> None:
    ex = Recorded(names=("sin", "mul", "add", "cos", "matmul", "mm", "t"))
    x, w = torch.randn(4, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    fn = lambda x, w: torch.sin(x @ w) * 2 + x  # noqa: E731
    ours, theirs = gradients(fulmen.jit(fn, executors=[ex]), x, w), gradients(fn, x, w)
    close(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        close(a, b)
    assert ["matmul", "sin", "mul", "add"] in ex.regions and len(ex.regions) >= 2


def test_no_region_has_effects_or_a_view_as_its_result() -> None:
    ex = Recorded(names=("sin", "mul", "add", "t", "rand_like", "add_", "copy_"))
    x, other = torch.randn(3, 3), torch.randn(3, 3)

    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        z = torch.sin(x).t() + torch.rand_like(x)
        y.add_(z * 2)
        return z, (torch.sin(x) * 2).t()

    y = other.clone()
    torch.manual_seed(0)
    expected = fn(x, other)
    torch.manual_seed(0)
    f = fulmen.jit(fn, executors=[ex])
    for a, b in zip(f(x, y), expected, strict=True):
        close(a, b)
    close(y, other)
    assert ex.regions and not any("rand_like" in r or "copy_" in r for r in ex.regions)


def test_priority_between_operators_and_regions() -> None:
    log: list[str] = []
    fn = lambda x: torch.sin(x) * 2 + 1  # noqa: E731
    x = torch.randn(3)
    for order, kernels in (
        ([make("a", log), Recorded()], {"a": 1, "recorded": 1}),
        ([Recorded(), make("a", log)], {"recorded": 1}),
        ([Recorded(names=("mul", "add")), Recorded("second")], {"recorded": 1, "aten": 1}),
        ([Recorded(names=("mul",)), Recorded("second")], {"aten": 3}),
    ):
        f = fulmen.jit(fn, executors=order)
        close(f(x), fn(x))
        assert fulmen.stats(f).kernels == kernels


def test_errors_of_a_fused_kernel_name_it() -> None:
    class Broken(Recorded):
        def fuse(self, region: fulmen.Trace) -> Callable[..., Any]:
            return lambda x: x[:1]

    f = fulmen.jit(lambda x: torch.sin(x) * 2, executors=[Broken()])
    with pytest.raises(fulmen.UserError, match=r"implementation of fusion0\(\) returned"):
        f(torch.ones(3))


@pytest.mark.parametrize("grad", [False, True])
def test_torch_compile(grad: bool) -> None:
    problem = __import__("fulmen.executors.torch_compile", fromlist=["problem"]).problem()
    if problem:
        pytest.skip(problem)
    fn = lambda x: F.gelu(x @ x).sum(-1)  # noqa: E731
    x = torch.randn(4, 4, requires_grad=grad)
    f = fulmen.jit(fn, executors=["torch_compile"])
    close(f(x), fn(x))
    if grad:
        close(gradients(f, x)[1][0], gradients(fn, x)[1][0])
    assert get_executor("torch_compile").failures == {}  # type: ignore[attr-defined]
    assert {c for c, _ in claims_of(f, "gelu")} == {"torch_compile"}


def test_torch_compile_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__("fulmen.executors.torch_compile", fromlist=["problem"])
    module.problem.cache_clear()
    monkeypatch.setenv("PATH", "")
    try:
        f = fulmen.jit(lambda x: torch.sin(x) * 2, executors=["torch_compile"])
        close(f(torch.ones(3)), torch.sin(torch.ones(3)) * 2)
        (executor, refusals), *_ = claims_of(f, "sin")
        assert executor == "aten" and "needs a C++ compiler" in refusals[0][1]
    finally:
        module.problem.cache_clear()


# --- The executors that are built in ------------------------------------------------------------


def test_the_python_reference_runs_the_printed_program() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        x.mul_(2)
        y = torch.relu(x @ w)
        return {"y": y, "view": x.t(), "x": x, "several": [y.sum(), 3, y]}

    x, w = torch.randn(4, 4), torch.randn(4, 4, requires_grad=True)
    other, expected_w = x.clone(), w.detach().clone().requires_grad_()
    f = fulmen.jit(fn, executors=["python"])
    ours, theirs = f(x, w), fn(other, expected_w)
    assert fulmen.stats(f).kernels == {"python": 1} and fulmen.stats(f).splits == {}
    assert ours["x"] is x and ours["view"].data_ptr() == x.data_ptr() and ours["several"][1] == 3
    assert torch.equal(ours["y"], theirs["y"]) and torch.equal(x, other)
    ours["several"][0].backward()
    theirs["several"][0].backward()
    assert torch.equal(w.grad, expected_w.grad)


def test_operators_before_the_reference(ex: OperatorExecutor) -> None:
    log: list[str] = []
    f = fulmen.jit(lambda x: torch.sin(x) * 2, executors=[make("a", log), "python"])
    close(f(torch.ones(3)), torch.sin(torch.ones(3)) * 2)
    assert log == ["a"] and fulmen.stats(f).kernels == {"python": 1}


@torch.library.custom_op("fulmen_tests::scale", mutates_args=())
def scale(x: torch.Tensor, k: float) -> torch.Tensor:
    return x * k


scale.register_fake(lambda x, k: torch.empty_like(x))
scale.register_autograd(
    lambda ctx, g: (g * ctx.k, None),
    setup_context=lambda ctx, inputs, output: setattr(ctx, "k", inputs[1]),
)


@pytest.mark.parametrize("given", [[], ["custom_op"]])
def test_operators_of_torch_library(given: list[str]) -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        ops = torch.ops.fulmen_tests
        return scale(x, 2.5) + ops.scale(x, k=1.5) * ops.scale.default(x, 2.0)

    x = torch.randn(4, requires_grad=True)
    f = fulmen.jit(fn, executors=given)
    ours, theirs = gradients(f, x), gradients(fn, x)
    close(ours[0], theirs[0])
    close(ours[1][0], theirs[1][0])
    assert fulmen.stats(f).kernels.get("custom_op", 0) == (3 if given else 0)
    assert fulmen.stats(f).splits == {}


@pytest.mark.parametrize("grad", [False, True])
def test_sdpa(grad: bool) -> None:
    q, k, v = (torch.randn(2, 3, 8, 16, requires_grad=grad) for _ in range(3))
    mask = torch.ones(8, 8, dtype=torch.bool).tril()

    def fn(q: Any, k: Any, v: Any) -> Any:
        attend = F.scaled_dot_product_attention
        return attend(q, k, v, is_causal=True) + attend(q, k, v, attn_mask=mask, scale=0.3)

    f = fulmen.jit(fn, executors=["sdpa"])
    assert torch.equal(f(q, k, v), fn(q, k, v))
    if grad:
        for a, b in zip(gradients(f, q, k, v)[1], gradients(fn, q, k, v)[1], strict=True):
            close(a, b)
    else:
        assert [c for c, _ in claims_of(f, "scaled_dot_product_attention")] == ["sdpa", "sdpa"]


def test_sdpa_refuses_with_its_reason() -> None:
    q = torch.randn(3, 8, 16)
    f = fulmen.jit(lambda q: F.scaled_dot_product_attention(q, q, q), executors=["sdpa"])
    close(f(q), F.scaled_dot_product_attention(q, q, q))
    assert "four dimensions" in claims_of(f, "scaled_dot_product_attention")[0][1][0][1]


# --- Plug-ins -----------------------------------------------------------------------------------


def build(folder: Path, source: str) -> Path:
    (folder / "plugin.cpp").write_text(source)
    library = folder / "libplugin.so"
    command = ["g++", "-O1", "-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{extend.include_dir()}", str(folder / "plugin.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def test_a_plugin(tmp_path: Path) -> None:
    source = (ROOT / "examples" / "silu_plugin.cpp").read_text()
    assert len(source.splitlines()) <= 60
    plugin = fulmen.load_plugin(build(tmp_path, source))
    assert plugin.name == "my_silu" and get_executor("my_silu") is plugin
    x = torch.randn(50, 700, requires_grad=True)
    fn = lambda x: F.silu(x) * 2 + F.silu(x.t()).t() + F.silu(x.double()).float()  # noqa: E731
    f = fulmen.jit(fn, executors=["my_silu"])
    ours, theirs = gradients(f, x), gradients(fn, x)
    close(ours[0], theirs[0])
    close(ours[1][0], theirs[1][0])
    why = (("my_silu", "it takes contiguous float32 on the CPU"),)
    assert claims_of(f, "silu") == [("my_silu", ()), ("aten", why), ("aten", why)]
    for shape in ((0, 3), (), (1, 1)):
        with torch.no_grad():
            y = torch.randn(shape)
            close(fulmen.jit(lambda x: F.silu(x), executors=[plugin])(y), F.silu(y))


C_PLUGIN = """
#include "plugin.h"
static const char* run(const FulmenValue* args, size_t n, const FulmenTensor* results, size_t m,
                       const FulmenHost* host) {
  (void)n; (void)m; (void)host;
  if (args[1].kind == FULMEN_INTEGER) return "a number is too hard";
  float* out = (float*)results[0].data;
  for (int64_t i = 0; i < results[0].sizes[0]; ++i)
    out[i] = ((const float*)args[0].tensor.data)[i * args[0].tensor.strides[0]] + 100;
  return 0;
}
static const FulmenOperator operators[] = {{"add", 0, run}};
static const FulmenPlugin plugin = {VERSION, "adder", operators, 1};
const FulmenPlugin* fulmen_plugin(void) { return &plugin; }
"""


def test_arguments_and_errors_of_a_plugin(tmp_path: Path) -> None:
    library = build(tmp_path, C_PLUGIN.replace("VERSION", "FULMEN_PLUGIN_VERSION"))
    plugin = fulmen.load_plugin(library)
    x = torch.arange(6.0)[::2]
    f = fulmen.jit(lambda x, y: x + y, executors=[plugin])
    close(f(x, x), x + 100)
    g = fulmen.jit(lambda x: torch.sin(x + 1), executors=[plugin])
    with pytest.raises(RuntimeError, match=r"kernel for add\(\).*test_executors.*too hard"):
        g(x)


def test_libraries_that_are_no_plugin(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can't be loaded"):
        fulmen.load_plugin(tmp_path / "none.so")
    with pytest.raises(ValueError, match="exports no function fulmen_plugin"):
        fulmen.load_plugin(build(tmp_path, "int x;"))
    (tmp_path / "old").mkdir()
    old = build(tmp_path / "old", C_PLUGIN.replace("VERSION", "FULMEN_PLUGIN_VERSION + 1"))
    with pytest.raises(ValueError, match="got version 2 of the plug-in interface; expected 1"):
        fulmen.load_plugin(old)


# --- Fuel and bisection -------------------------------------------------------------------------


def test_fuel_counts_claims_and_rewrites() -> None:
    log: list[str] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        torch.cos(x)  # nobody reads it
        return torch.sin(x) + torch.sin(x + 1)

    counts = []
    for fuel in (0, 1, 2, 3, -1):
        _core.set_flag("fuel", str(fuel))
        try:
            f = fulmen.jit(fn, executors=[make("a", log)])
            log.clear()
            close(f(torch.ones(3)), fn(torch.ones(3)))
            names = [b.symbol.name for b in fulmen.last_traces(f)[-1].bound_symbols]
            counts.append((names.count("cos"), len(log)))
        finally:
            _core.set_flag("fuel", "-1")
    assert counts == [(1, 0), (0, 0), (0, 1), (0, 1), (0, 2)]


def make_wrong(size: int) -> OperatorExecutor:
    """cos is wrong for tensors of one size."""
    ex = OperatorExecutor("wrong")
    op = ex.register_operator(
        "cos", like=torch.cos, fn=lambda x: torch.cos(x) + 0.1 * (x.numel() == size)
    )
    ex.register_implementation(torch.cos, op)
    return ex


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_bisect_finds_a_wrong_executor(size: int, grad: bool) -> None:
    def fn(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Any:
        x = torch.cos(x) * 1
        y = torch.cos(y) * 2
        return x.sum() + y.sum() + torch.cos(z).sum()

    inputs = [torch.randn(n, requires_grad=grad) for n in (2, 3, 4)]
    f = fulmen.jit(fn, executors=[make_wrong(size)])
    culprit = fulmen.examine.bisect(f, *inputs)
    assert culprit is not None
    line = fn.__code__.co_firstlineno + size - 1
    assert culprit.rewrite.startswith("executor wrong: ")
    assert f"cos(…)  [test_executors.py:{line} in fn]" in culprit.rewrite
    assert 1 <= culprit.number <= culprit.total and "Expected" in str(culprit)
    assert fulmen.examine.bisect(fulmen.jit(fn), *inputs) is None


def test_bisect_finds_a_wrong_gradient() -> None:
    f = fulmen.jit(lambda x: (torch.exp(x) * torch.sin(x)).sum(), executors=[make_own([])])
    culprit = fulmen.examine.bisect(f, torch.randn(3, requires_grad=True))
    assert culprit is not None and culprit.rewrite.startswith("gradient of executor own: ")
    assert culprit.difference.startswith("gradients 0: ")


def test_bisect_finds_a_wrong_region_of_the_backward() -> None:
    class Wrong(Recorded):
        def fuse(self, region: fulmen.Trace) -> Callable[..., Any]:
            run = python_callable(region)
            if "cos" not in [b.symbol.name for b in region.bound_symbols]:
                return run
            return lambda *args: run(*args) + 1

    ex = Wrong(names=("sin", "cos", "mul"))
    f = fulmen.jit(lambda x: torch.sin(x) * 2 * x, executors=[ex])
    culprit = fulmen.examine.bisect(f, torch.randn(3, requires_grad=True))
    assert culprit is not None and culprit.rewrite.startswith("partition: ")


def test_bisect_with_state_and_random_numbers() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert fulmen.examine.bisect(fulmen.jit(model), torch.randn(8, 4)) is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_bisect_of_what_differs_without_any_rewrite() -> None:
    f = fulmen.jit(lambda x: x + 1)
    culprit = fulmen.examine.bisect(f, torch.ones(2), differs=lambda a, b: "always")
    assert culprit is not None and culprit.rewrite == "" and culprit.number == 0
    assert "not a rewrite" in str(culprit)
    with pytest.raises(fulmen.UserError, match="expected what fulmen.jit returned"):
        fulmen.examine.bisect(torch.sin, torch.ones(2))
