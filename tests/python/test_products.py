"""Products by Fulmen's own loops: what they compute, and which they take."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import _core

ROOT = Path(__file__).parents[2]
HALF = torch.float16
# Where the processor has instructions for bfloat16, PyTorch's products use them.
HAS_BFLOAT = torch.ops.mkldnn._is_mkldnn_bf16_supported()
# AMD's processors with AVX-512, on which all products of float32 are ours.
WIDE = "avx512" in _core.instruction_sets() and "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
LOOPS = "avx2" in _core.instruction_sets()

pytestmark = pytest.mark.skipif(not LOOPS, reason="the loops need AVX2")


@pytest.fixture(params=["", "avx2"])
def _isa(request: pytest.FixtureRequest) -> Iterator[None]:
    _core.set_flag("isa", request.param)
    yield
    _core.set_flag("isa", "")


def jit(f: Callable[..., Any]) -> Any:
    return fulmen.jit(f, executors=["products"])


def double(x: Any) -> Any:
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def check(f: Callable[..., Any], *args: Any, slack: float = 1.5) -> None:
    """As close to the result in float64 as eager's, with its metadata, by our loops."""
    compiled = jit(f)
    got, want = compiled(*args), f(*args)
    assert (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
    exact = f(*map(double, args))
    own, eager = (got.double() - exact).norm(), (want.double() - exact).norm()
    floor = torch.finfo(got.dtype).eps * exact.norm() / 4
    assert own <= slack * eager + floor
    assert fulmen.stats(compiled).kernels.get("products") == 1, fulmen.stats(compiled).refusals


SHAPES = [(1, 64, 48), (3, 1, 5), (5, 300, 17), (8, 513, 130), (33, 70, 65), (130, 64, 7)]
FORMS: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda x, w, b: F.linear(x, w),
    "linear with bias": lambda x, w, b: F.linear(x, w, b),
    "mm": lambda x, w, b: torch.mm(x, w.t()),
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
    "operator": lambda x, w, b: x @ w.t(),
}
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rows": lambda t: t,
    "columns": lambda t: t.t().contiguous().t(),
    "neither": lambda t: torch.stack([t, t], -1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t),
}


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_float16_has_the_accuracy_of_eager(form: str, sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    x, w, b = (torch.randn(s).to(HALF) for s in ((m, k), (n, k), (n,)))
    for layout in LAYOUTS.values():
        # Eager adds a bias in float32 only where oneDNN does it.
        check(FORMS[form], layout(x), layout(w), b)


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(1, 600, 70), (2, 64, 48), (7, 300, 33), (90, 130, 4)], ids=str)
def test_few_rows_or_columns_of_float32(form: str, sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
    for layout in LAYOUTS.values():
        check(FORMS[form], layout(x), layout(w), b, slack=2.5)


def test_every_rank() -> None:
    def r(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(HALF)

    check(lambda x, w, b: F.linear(x, w, b), r(2, 3, 40), r(17, 40), r(17))
    check(lambda x, w: F.linear(x, w), r(40), r(17, 40))
    check(lambda x, w: F.linear(x, w), r(3, 2, 40).transpose(0, 1), r(17, 40))
    check(torch.matmul, r(4, 5, 30), r(30, 9))
    check(torch.matmul, r(2, 3, 4, 30), r(2, 3, 30, 5))
    check(torch.matmul, r(2, 1, 4, 30), r(3, 30, 5))
    check(torch.matmul, r(4, 30), r(2, 3, 30, 5))
    check(torch.matmul, r(30), r(3, 30, 5))
    check(torch.matmul, r(30), r(30, 5))
    check(torch.matmul, r(4, 30), r(30))
    check(torch.mv, r(4, 30), r(30))
    check(torch.bmm, r(3, 4, 30), r(3, 30, 5))
    check(torch.bmm, r(3, 30, 4).transpose(1, 2), r(3, 5, 30).transpose(1, 2))
    check(torch.bmm, r(1, 4, 30).expand(3, 4, 30), r(3, 30, 5))
    check(lambda q, k: q @ k.transpose(-1, -2), r(2, 3, 17, 16), r(2, 3, 17, 16))
    check(torch.addmm, r(1, 5), r(4, 30), r(30, 5))
    check(torch.addmm, r(4, 1), r(4, 30), r(30, 5))
    check(torch.addmm, r(4, 5).t().contiguous().t(), r(4, 30), r(30, 5))


@pytest.mark.parametrize("sizes", [(0, 4, 3), (2, 0, 3), (2, 4, 0)], ids=str)
def test_empty_operands(sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    x, w, b = (torch.ones(s).to(HALF) for s in ((m, k), (n, k), (n,)))
    got = jit(lambda x, w, b: F.linear(x, w, b))(x, w, b)
    assert torch.equal(got, F.linear(x, w, b)) and got.dtype == HALF
    batch = jit(torch.bmm)(torch.ones(2, m, k).to(HALF), torch.ones(2, k, n).to(HALF))
    assert torch.equal(batch, torch.zeros(2, m, n).to(HALF))


def test_infinities_and_nan_stay_what_they_are() -> None:
    x = torch.tensor([[1.0, float("inf"), 2.0], [float("nan"), 1.0, 1.0], [6e4, 6e4, 0.0]]).to(HALF)
    w = torch.tensor([[1.0, 1.0, 1.0], [0.0, -1.0, 0.5]]).to(HALF)
    got = jit(lambda x, w: F.linear(x, w))(x, w)
    torch.testing.assert_close(got, F.linear(x, w), equal_nan=True)
    assert got[0, 0] == float("inf") and got[1].isnan().all() and got[2, 0] == float("inf")


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_such_products_too(autocast: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(40, 70), torch.nn.GELU(), torch.nn.Linear(70, 9))
    if not autocast:
        model = model.to(HALF)
    exact, eager = copy.deepcopy(model).double(), copy.deepcopy(model)
    x = torch.randn(3, 50, 40, dtype=torch.float32 if autocast else HALF)
    compiled = jit(model)

    def grads(f: Any, module: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
        x = x.clone().requires_grad_()
        with torch.autocast("cpu", HALF, enabled=autocast and x.dtype == torch.float32):
            out = f(x)
        out.float().square().mean().backward()
        return [g for g in (x.grad, *(p.grad for p in module.parameters())) if g is not None]

    own, others = grads(compiled, model, x), grads(eager, eager, x)
    for mine, theirs, true in zip(own, others, grads(exact, exact, x.double()), strict=True):
        assert mine.dtype == theirs.dtype and mine.stride() == theirs.stride()
        error = (mine.double() - true).norm()
        assert error <= 1.3 * (theirs.double() - true).norm() + 1e-4 * true.norm()
    claims = [c.executor for c in fulmen.examine.executors(compiled).of("mm")]
    assert claims and set(claims) == {"products"}


def test_threads_give_the_same_numbers() -> None:
    before = torch.get_num_threads()
    cases = [(1, 2000, 700), (6, 900, 800), (200, 300, 400), (64, 6000, 64)]
    f = jit(lambda x, w, v: (F.linear(x, w), x @ v))
    batch = jit(torch.bmm)
    try:
        for m, k, n in cases:
            x, w = torch.randn(m, k).to(HALF), torch.randn(n, k).to(HALF)
            v, a = w.t().contiguous(), torch.randn(5, 70, 80).to(HALF)
            results = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append((*f(x, w, v), batch(a, a.transpose(1, 2))))
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(before)


def why_not(f: Callable[..., Any], *args: Any) -> str:
    compiled = jit(f)
    assert torch.equal(compiled(*args), f(*args))
    (claim,) = fulmen.examine.executors(compiled).claims
    assert claim.executor == "aten"
    return dict(claim.refusals)["products"]


def test_it_says_why_it_leaves_a_product() -> None:
    x = torch.randn(200, 200)
    if not WIDE:
        assert why_not(torch.mm, x, x) == "ATen is as fast on more than a few rows"
    assert why_not(torch.mm, x.double(), x.double()) == "it takes float32, bfloat16 and float16"
    one, half = torch.randn(2, 3).to(HALF), torch.randn(3, 4).to(HALF)
    scaled = why_not(lambda a, b: torch.addmm(a, one, b, beta=2), torch.ones(2, 4).to(HALF), half)
    assert scaled == "beta and alpha that are not 1"
    if HAS_BFLOAT:
        other = why_not(torch.mm, one.bfloat16(), half.bfloat16())
        assert other == "PyTorch has kernels for this dtype on this processor"
    _core.set_flag("isa", "sse")
    try:
        assert why_not(torch.mm, one, half) == "it has loops for processors with AVX2 alone"
    finally:
        _core.set_flag("isa", "")


def test_vmap_of_a_backward_runs_through_pytorch() -> None:
    x = torch.randn(5, 6).to(HALF).requires_grad_()
    w = torch.randn(4, 6).to(HALF)
    out = jit(lambda x, w: F.linear(x, w))(x, w)
    seeds = torch.randn(3, 5, 4).to(HALF)
    got = torch.vmap(lambda s: torch.autograd.grad(out, x, s, retain_graph=True)[0])(seeds)
    torch.testing.assert_close(got, seeds @ w)


_BFLOAT = """
import torch, fulmen, torch.nn.functional as F
assert not torch.ops.mkldnn._is_mkldnn_bf16_supported()
for m, k, n in ((1, 300, 70), (7, 64, 5), (50, 130, 64)):
    x, w, b = (torch.randn(s).bfloat16() for s in ((m, k), (n, k), (n,)))
    for f in (lambda x, w, b: F.linear(x, w, b), lambda x, w, b: x @ w.t(),
              lambda x, w, b: x @ w.t().contiguous()):
        jitted = fulmen.jit(f, executors=["products"])
        exact = f(x.double(), w.double(), b.double())
        error = (jitted(x, w, b).double() - exact).norm()
        assert error <= 1.2 * (f(x, w, b).double() - exact).norm()
        assert fulmen.stats(jitted).kernels["products"] == 1
print("done")
"""


def test_bfloat16_where_the_processor_has_no_instructions_for_it() -> None:
    """oneDNN is told to see less of the processor than there is; PyTorch asks it."""
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", _BFLOAT], env=env, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "done", done.stderr


# --- a linear layer with its loss --------------------------------------------------------------

CLASSES = 8300  # times rows: enough that the scores are worth not keeping


class Head(torch.nn.Module):
    def __init__(self, dtype: torch.dtype, bias: bool = True) -> None:
        super().__init__()
        self.head = torch.nn.Linear(24, CLASSES, bias=bias, dtype=dtype)

    def forward(self, x: torch.Tensor, y: torch.Tensor, **options: Any) -> torch.Tensor:
        scores = self.head(x)
        if scores.dtype == HALF:
            scores = scores.float()
        return F.cross_entropy(scores.view(-1, CLASSES), y.view(-1), **options)


def batch(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.randint(0, CLASSES, (4, 130))
    y[1, 7:20] = -100
    return torch.randn(4, 130, 24).to(dtype), y


def is_fused(f: Any) -> bool:
    return any("linear_cross_entropy" in str(t) for t in fulmen.last_traces(f))


def step(
    f: Any, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, seed: float, **options: Any
) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    module.zero_grad()
    loss = f(x, y, **options)
    (loss * seed).backward()
    grads = [x.grad, *(p.grad for p in module.parameters())]
    return [loss.detach(), *(g for g in grads if g is not None)]


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("seed", [1.0, 3.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
def test_a_loss_with_its_layer(dtype: torch.dtype, bias: bool, reduction: str, seed: float) -> None:
    module = Head(dtype, bias)
    x, y = batch(dtype)
    exact = copy.deepcopy(module).double()
    compiled = jit(module)
    own = step(compiled, module, x, y, seed, reduction=reduction)
    eager = step(copy.deepcopy(module), module, x, y, seed, reduction=reduction)
    if len(eager) < len(own):  # the copy has parameters of its own
        other = copy.deepcopy(module)
        eager = step(other, other, x, y, seed, reduction=reduction)
    true = step(exact, exact, x.double(), y, seed, reduction=reduction)
    assert is_fused(compiled)
    for mine, theirs, t in zip(own, eager, true, strict=True):
        assert (mine.dtype, mine.shape, mine.stride()) == (
            theirs.dtype, theirs.shape, theirs.stride(),
        )  # fmt: skip
        floor = torch.finfo(mine.dtype).eps * t.norm()
        assert (mine.double() - t).norm() <= 1.3 * (theirs.double() - t).norm() + floor


def test_scores_of_half_types_are_kept() -> None:
    module = Head(HALF)
    x, y = batch(HALF)
    compiled = jit(lambda x, y: F.cross_entropy(module.head(x).flatten(0, 1), y.flatten()))
    compiled(x, y)
    assert not is_fused(compiled)


def test_no_gradients_are_computed_that_nobody_asks_for() -> None:
    module = Head(torch.float32).requires_grad_(False)
    x, y = batch(torch.float32)
    compiled = jit(module)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, y), module(x, y))
    assert is_fused(compiled)
    assert "linear_cross_entropy_forward" not in str(fulmen.last_traces(compiled)[-1])
    x.requires_grad_()
    compiled(x, y).backward()
    grad, x.grad = x.grad, None
    module(x, y).backward()
    torch.testing.assert_close(grad, x.grad)
    assert "False, True, False, False)" in str(fulmen.last_traces(compiled)[-1])


def test_a_graph_that_is_kept_gives_its_gradients_again() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)
    loss = jit(module)(x, y)
    parameters = list(module.parameters())
    first = torch.autograd.grad(loss * 2, parameters, retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(loss * 2, parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, parameters)


def test_second_derivatives_are_those_of_pytorch() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)

    def penalty(f: Any) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(f(leaf, y), leaf, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum() * 1e6, leaf)
        return second

    torch.testing.assert_close(penalty(jit(module)), penalty(module))


def test_two_gradients_of_a_loss_in_one_program() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)

    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = module(x, y)
        first = torch.autograd.grad(loss, module.head.weight, retain_graph=True)[0]
        second = torch.autograd.grad(loss * 3, module.head.weight)[0]
        return loss.detach(), first, second

    compiled = jit(f)
    for mine, theirs in zip(compiled(x, y), f(x, y), strict=True):
        torch.testing.assert_close(mine, theirs)


SHIFTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "all but the last": lambda s: s[:, :-1],
    "of a view": lambda s: s.view(2, -1, s.shape[-1])[:, 1:].contiguous(),
    "of the first dimension": lambda s: s[:1],
    "narrow": lambda s: s.narrow(1, 1, 77).float(),
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_rows_that_are_left_out(shift: str) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 60_000)
    x = torch.randn(2, 80, 24, requires_grad=True)

    def f(x: torch.Tensor) -> torch.Tensor:
        scores = SHIFTS[shift](layer(x)).flatten(0, -2)
        y = torch.arange(scores.shape[0]) * 7
        return F.cross_entropy(scores, y)

    compiled = jit(f)
    results = []
    for function in (compiled, f):
        x.grad = layer.weight.grad = layer.bias.grad = None
        loss = function(x)
        loss.backward()
        results.append((loss.detach(), x.grad, layer.weight.grad, layer.bias.grad))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert is_fused(compiled)


def test_scores_that_are_read_elsewhere_are_kept() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)

    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = module.head(x).view(-1, CLASSES)
        return F.cross_entropy(scores, y.view(-1)), scores.argmax(-1)

    compiled = jit(f)
    assert torch.equal(compiled(x, y)[1], f(x, y)[1])
    assert not is_fused(compiled)


@pytest.mark.parametrize(
    "options", [{"label_smoothing": 0.1}, {"reduction": "none"}, {"weight": torch.ones(CLASSES)}]
)
def test_other_losses_are_left(options: dict[str, Any]) -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)
    compiled = jit(lambda x, y: module(x, y, **options))
    torch.testing.assert_close(compiled(x, y), module(x, y, **options))
    assert not is_fused(compiled)


def test_a_loss_of_ignored_rows_alone() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)
    y.fill_(-100)
    mine, theirs = (step(f, module, x, y, 1.0) for f in (jit(module), module))
    torch.testing.assert_close(mine, theirs, equal_nan=True)
    assert mine[0].isnan() and not mine[1].any()


@pytest.mark.parametrize("wrong", [CLASSES, -1])
def test_a_target_that_is_no_class(wrong: int) -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)
    y[2, 3] = wrong
    with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
        module(x, y)
    with pytest.raises(IndexError, match=f"Target {wrong} is out of bounds"):
        jit(module)(x, y)


def test_the_printed_program_computes_the_same() -> None:
    module = Head(torch.float32)
    x, y = batch(torch.float32)
    compiled = fulmen.jit(module, executors=["products", "python"])
    mine, theirs = step(compiled, module, x, y, 1.0), step(module, module, x, y, 1.0)
    torch.testing.assert_close(mine, theirs)
