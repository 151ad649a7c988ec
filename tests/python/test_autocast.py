"""torch.autocast around calls of fulmen.jit and inside its programs: eager's bits, both ways."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils import _pytree as pytree

import fulmen
from fulmen import _core

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


def autocast(dtype: torch.dtype = torch.bfloat16, **kwargs: Any) -> torch.autocast:
    return torch.autocast("cpu", dtype, **kwargs)


def t(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*(shape or (4, 4))).requires_grad_(grad)


def assert_same(got: Any, expected: Any) -> None:
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        if isinstance(y, torch.Tensor):
            assert x.dtype == y.dtype and x.requires_grad == y.requires_grad
            assert x.stride() == y.stride()
            assert torch.equal(x, y) or torch.equal(x.isnan(), y.isnan())
        else:
            assert x == y


def clone(tree: Any) -> Any:
    return pytree.tree_map(
        lambda x: (
            x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
        ),
        tree,
    )


def gradients(results: Any, args: tuple[Any, ...]) -> list[torch.Tensor | None]:
    """After a backward pass of everything in `results` that has a gradient."""
    outputs = [
        r.float().sin().sum()
        for r in pytree.tree_leaves(results)
        if isinstance(r, torch.Tensor) and r.requires_grad
    ]
    if outputs:
        torch.stack(outputs).sum().backward()
    return [a.grad for a in pytree.tree_leaves(args) if isinstance(a, torch.Tensor)]


def check(
    fn: Callable[..., Any],
    *args: Any,
    around: Callable[[], Any] | None = None,
    fallbacks: bool = False,
) -> fulmen.Stats:
    """fn's results and gradients against eager's, at a miss and at a hit, in one program."""
    jitted = fulmen.jit(fn)
    for _ in range(2):
        ours, theirs = clone(args), clone(args)
        if around is None:
            expected, got = fn(*theirs), jitted(*ours)
        else:
            with around():
                expected = fn(*theirs)
            with around():
                got = jitted(*ours)
        assert_same(got, expected)
        assert_same(gradients(got, ours), gradients(expected, theirs))
    stats = fulmen.stats(jitted)
    assert stats.splits == {} and stats.recompiles == [] and stats.cache_hits == 1
    if not fallbacks:
        assert stats.fallbacks == {}
    return stats


def layers(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> Any:
    y = F.linear(x, w, b)
    z = torch.softmax(y @ y.t(), -1)
    return F.layer_norm(z @ x, x.shape[-1:]), (y.float() - 1).exp().sum()


@DTYPES
def test_around_the_call(dtype: torch.dtype) -> None:
    check(layers, t(grad=True), t(grad=True), t(4, grad=True), around=lambda: autocast(dtype))
    check(layers, t(), t(), t(4), around=lambda: autocast(dtype))


@DTYPES
def test_region(dtype: torch.dtype) -> None:
    def fn(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> Any:
        before = x @ w
        with torch.autocast("cpu", dtype=dtype):
            inside = layers(before, w, b)
        return before, inside, x @ w

    check(fn, t(grad=True), t(grad=True), t(4, grad=True))


def test_decorators() -> None:
    @torch.autocast("cpu", torch.bfloat16)
    def a(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    @torch.amp.autocast("cpu", dtype=torch.float16)
    def b(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    def fn(x: torch.Tensor) -> Any:
        return a(x), b(x), x @ x

    check(fn, t(grad=True))
    check(a, t(grad=True))


@pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast.*:FutureWarning")
def test_cpu_amp() -> None:
    def fn(x: torch.Tensor) -> Any:
        with torch.cpu.amp.autocast():
            return x @ x

    check(fn, t(grad=True))


def test_nested_and_disabled() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        with autocast():
            a = x @ w
            with autocast(enabled=False):
                b = x @ w
                with autocast():
                    c = b @ w
                state = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
            d = x @ w
            inner = torch.is_autocast_enabled("cpu")
            with autocast(torch.float16):
                e = (x + 1) @ (w + 1)
        return a, b, c, d, e, state, inner, torch.is_autocast_enabled("cpu")

    check(fn, t(grad=True), t(grad=True))


def test_disabled_inside_of_a_region_around_the_call() -> None:
    def fn(x: torch.Tensor) -> Any:
        with autocast(enabled=False):
            a = x @ x
        return a, x @ x

    check(fn, t(grad=True), around=autocast)


def test_default_dtype_of_the_region() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu"):
            return x @ x

    x, jitted, outer = t(), fulmen.jit(fn), torch.get_autocast_dtype("cpu")
    try:
        for dtype in (torch.bfloat16, torch.float16, torch.bfloat16):
            torch.set_autocast_dtype("cpu", dtype)
            assert_same(jitted(x), fn(x))
            assert jitted(x).dtype == dtype
    finally:
        torch.set_autocast_dtype("cpu", outer)
    assert len(fulmen.stats(jitted).recompiles) == 1


def test_a_specialization_for_each_state() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    x, jitted = t(), fulmen.jit(fn)
    for _ in range(2):
        assert jitted(x).dtype == torch.float32
        with autocast():
            assert jitted(x).dtype == torch.bfloat16
            with autocast(torch.float16):
                assert jitted(x).dtype == torch.float16
            with autocast(enabled=False):
                assert jitted(x).dtype == torch.float32
    stats = fulmen.stats(jitted)
    assert (stats.calls, stats.cache_hits, stats.cache_misses) == (8, 5, 3)
    assert stats.recompiles == ["autocast on CPU changed"] * 2 and stats.splits == {}


def test_parameters_are_cast_once() -> None:
    """So that their gradients are added as eager adds them, and only theirs."""

    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        y = x * 2
        return y @ w, (y + 1) @ w, y @ w.t(), y @ w

    check(fn, t(grad=True), t(grad=True), around=autocast)
    check(fn, t(grad=True), t(grad=True), around=lambda: autocast(cache_enabled=False))
    jitted = fulmen.jit(fn)
    for cache, casts in ((True, 2), (False, 4)):
        with autocast(cache_enabled=cache):
            jitted(t(), t(grad=True))
        of_w = re.findall(r"Tensor\.to\(w, torch\.bfloat16\)", str(fulmen.last_traces(jitted)[-1]))
        assert len(of_w) == casts - 1


def test_the_cache_ends_with_the_outermost_region() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        with autocast():
            with autocast():
                a = x @ w
            b = x @ w
        with autocast():
            c = x @ w
        return a, b, c

    check(fn, t(grad=True), t(grad=True))


def test_grad_modes_in_a_region() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        with autocast():
            with torch.no_grad():
                a = x @ w
            b = x @ w
            with torch.no_grad():
                c = x @ w
        return a, b, c

    check(fn, t(grad=True), t(grad=True))


def test_double_and_integers_are_left_alone() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        return x.double() @ x.double(), y @ y, torch.cat([x, x.bfloat16()]), F.prelu(x, x[0, :1])

    check(fn, t(grad=True), torch.arange(4).reshape(2, 2), around=autocast)


def test_composites() -> None:
    """What eager casts inside of an operation is cast there."""

    def fn(x: torch.Tensor, y: torch.Tensor, target: torch.Tensor) -> Any:
        h = x @ y
        return (
            torch.einsum("ij,jk->ik", x, y),
            torch.einsum("ij->ji", x),
            torch.tensordot(x, y, 1),
            torch.inner(x, y),
            torch.linalg.multi_dot([x, y, x]),
            torch.linalg.matrix_power(x, 3),
            F.bilinear(x, y, torch.ones(2, 4, 4)),
            F.cosine_similarity(h, y),
            F.cross_entropy(h, target),
            F.pad(h[None], (1, 1), mode="reflect"),
            F.pad(h[None], (1, 1)),
            F.normalize(h),
            h.norm(),
        )

    args = (t(grad=True), t(grad=True), torch.arange(4))
    check(fn, *args, around=autocast, fallbacks=True)


def test_an_opaque_operation_inside_a_region() -> None:
    def fn(x: torch.Tensor) -> Any:
        with autocast():
            a = torch.chain_matmul(x, x, x)
        return a, torch.chain_matmul(x, x, x)

    with pytest.warns(UserWarning, match="chain_matmul"):
        stats = check(fn, t(grad=True), fallbacks=True)
    assert set(stats.fallbacks) == {"torch.functional.chain_matmul"} or stats.fallbacks


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_recurrent_layers(kind: Any) -> None:
    """Their parameters are cast once, not once a step."""
    layer = kind(4, 4)
    copied = copy.deepcopy(layer)
    jitted = fulmen.jit(copied)
    for around in (autocast, lambda: autocast(cache_enabled=False)):
        results = []
        for run, module in ((jitted, copied), (layer, layer)):
            module.zero_grad()
            x = torch.linspace(-1, 1, 24).view(3, 2, 4).requires_grad_()
            with around():
                y, _ = run(x)
            y.float().sin().sum().backward()
            results.append([y, x.grad, *(p.grad for p in module.parameters())])
        assert_same(*results)
    assert fulmen.stats(jitted).splits == {}


class Scaled(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, y)
        return x @ y

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        x, y = ctx.saved_tensors
        return grad @ y.t(), x.t() @ grad


class InFloat32(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x @ x

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return grad @ x.t() + x.t() @ grad


def test_autograd_functions() -> None:
    def fn(x: torch.Tensor, y: torch.Tensor) -> Any:
        with autocast():
            a = Scaled.apply(x, y)
            b = InFloat32.apply(a)
        return a, b, Scaled.apply(x, y)

    check(fn, t(grad=True), t(grad=True), fallbacks=True)


def test_a_tensor_is_asked_for_its_value() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        with autocast():
            y = x @ w
            if y.sum() > 0:
                y = y * 2
            z = y @ w
        return y, z, z.float() @ w

    x, w = t(), t()
    jitted = fulmen.jit(fn)
    for sign in (1, -1, 1, -1):
        assert_same(jitted(x * sign, w), fn(x * sign, w))
    assert fulmen.stats(jitted).splits == {}
    assert not torch.is_autocast_enabled("cpu")


def test_a_call_that_leaves_autocast_on() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        torch.set_autocast_enabled("cpu", True)
        return x @ x

    x, jitted = t(), fulmen.jit(fn)
    try:
        assert jitted(x).dtype == torch.bfloat16 and torch.is_autocast_enabled("cpu")
    finally:
        torch.set_autocast_enabled("cpu", False)
    assert "torch.autocast" in fulmen.stats(jitted).splits["the whole function"]


def test_the_state_after_a_failing_call() -> None:
    def fn(x: torch.Tensor) -> torch.Tensor:
        with autocast(), torch.no_grad():
            return x @ torch.ones(3, 3)

    with pytest.raises(RuntimeError):
        fulmen.jit(fn)(t())
    assert not torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    assert torch.autocast_increment_nesting() == 1
    assert torch.autocast_decrement_nesting() == 0


def test_the_trace_runs_on_plain_pytorch() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        with autocast():
            return torch.einsum("ij->ji", F.linear(x, w))

    x, w = t(), t(grad=True)
    trace = fulmen.trace(fn)(x, w)
    text = str(trace)
    assert text.count("torch.bfloat16)") >= 2
    assert _core.parse_trace(text).equals(trace)
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert_same(scope["computation"](x, w), fn(x, w))


def test_grad_scaler() -> None:
    """Training with float16: losses, scales and parameters are eager's, overflows included."""
    histories = []
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 1))
    for make in (lambda m: m, fulmen.jit):
        own = copy.deepcopy(model)
        run = make(own)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=3)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.1)
        torch.manual_seed(1)
        history: list[Any] = []
        for _ in range(12):
            x = torch.randn(16, 8)
            optimizer.zero_grad()
            with autocast(torch.float16):
                loss = F.mse_loss(run(x), x.sum(1, keepdim=True))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            history += [loss.detach(), scaler.get_scale()]
        histories.append([*history, *own.parameters()])
    assert_same(*histories)
    assert histories[0][1] != histories[0][-5], "the scale never changed"


def test_the_lists_are_pytorchs() -> None:
    """Every operator with a kernel for autocast has a policy here, and no other."""
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        registered = torch._C._dispatch_get_registrations_for_dispatch_key(key)
        names = {name.removeprefix("aten::").split(".")[0] for name in registered}
        assert set(_core.autocast_rules(device)) == names


def test_the_cuda_policies_are_pytorchs() -> None:
    """As the macros of PyTorch's own header list them."""
    header = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
    lists = {
        "LOWER_PRECISION_FP": "lower_precision_fp",
        "FP32": "fp32",
        "FP32_SET_OPT_DTYPE": "fp32_set_opt_dtype",
        "PROMOTE": "promote",
    }
    rules = _core.autocast_rules("cuda")
    seen = {"norm", "binary_cross_entropy", "cudnn_convolution", "cudnn_convolution_transpose"}
    for macro, policy in lists.items():
        text = re.search(rf"#define AT_FORALL_{macro}\(_\)(.*?)\n\n", header.read_text(), re.DOTALL)
        assert text is not None
        for op in re.findall(r"_\((\w+)", text.group(1)):
            assert rules.get(op) == policy or op not in rules, op
            seen.add(op)
    assert set(rules) <= seen


def test_behind_torch_compile() -> None:
    def fn(x: torch.Tensor, w: torch.Tensor) -> Any:
        y = x @ w
        with autocast():
            a = F.linear(y, w).relu()
            with autocast(enabled=False):
                b = y.float() @ w
        with autocast():
            c = y @ w
        return a, b, c, y.float() @ w

    for around in (lambda: autocast(enabled=False), autocast):
        compiler = fulmen.dynamo.FulmenCompiler()
        compiled = torch.compile(fn, backend=compiler)
        for _ in range(2):
            args = t(grad=True), t(grad=True)
            ours, theirs = clone(args), clone(args)
            with around():
                got, expected = compiled(*ours), fn(*theirs)
            assert_same(got, expected)
            assert_same(gradients(got, ours), gradients(expected, theirs))
        stats = fulmen.stats(compiler)
        assert stats.splits == {} and stats.fallbacks == {}
        assert not torch.is_autocast_enabled("cpu")
