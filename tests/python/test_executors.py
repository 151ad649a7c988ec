"""Which executor runs what: lists, claims, regions, and the executors that are built in."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import _core, extend
from fulmen import executors as registry
from fulmen.executor import _registry
from fulmen.extend import (
    OperatorExecutor,
    get_executor,
    get_grad,
    put_grad,
)
from own_executors import Recorded, claims_of, close, gradients, make

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

    outer.register_implementation(torch.exp, execution_transform=two_steps, grad_transform=gradient)
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


def test_traces_can_be_claimed_by_hand() -> None:
    a = make("a", [])
    x = torch.ones(3)
    trace = fulmen.trace(lambda x: torch.sin(x) * 2 + 1)(x)
    claimed = extend.transform_for_operator_executor_execution(trace, [a])
    assert [b.executor for b in claimed.bound_symbols] == ["a", "", ""]
    assert fulmen.parse_trace(str(claimed)).equals(claimed)
    # What is claimed stays so; functional traces have regions.
    claimed = extend.transform_for_execution(claimed, ["aten"])
    assert [b.executor for b in claimed.bound_symbols] == ["a", "aten", "aten"]


def test_jitted_modules_with_executors_pickle() -> None:
    model = fulmen.jit(torch.nn.Linear(2, 3), executors=["sdpa", "custom_op"])
    again = pickle.loads(pickle.dumps(model))
    x = torch.ones(1, 2)
    close(again(x), model(x))
    names = fulmen.examine.executors(again).executors
    assert names == fulmen.examine.executors(model).executors


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
        ex.register_operator("a", fn=lambda x, y=[]: x, like=torch.sin)
    with pytest.raises(ValueError, match="got tag 'fast'; expected one of pure"):
        ex.register_operator("a", fn=lambda x: x, like=torch.sin, tags=["fast"])
    with pytest.raises(ValueError, match="expected a Python identifier"):
        ex.register_operator("a b", fn=lambda x: x, like=torch.sin)


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
