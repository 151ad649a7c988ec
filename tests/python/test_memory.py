"""What forwards save and what backwards compute again; peaks as predicted and as measured."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fulmen
from fulmen import examine

KEPT: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_kept() -> Any:
    yield
    KEPT.clear()


def allocated(call: Callable[[], object]) -> tuple[int, int]:
    """(peak, end) of the bytes that PyTorch's allocator hands out during a call."""
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
        call()
    events = profile.profiler.kineto_results.events()
    now = peak = 0
    for _, change in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        now += change
        peak = max(peak, now)
    return peak, now


def step_memory(f: Callable[[], Any]) -> tuple[int, int]:
    """(peak of the forward, peak of forward and backward); the result is kept all the time."""

    def forward() -> None:
        KEPT.append(f())

    def backward() -> None:
        result = KEPT[-1]
        (result if isinstance(result, torch.Tensor) else result[0]).backward()

    # Tensors of other tests must not die while it is measured.
    gc.collect()
    gc.disable()
    try:
        first, kept = allocated(forward)
        second, _ = allocated(backward)
    finally:
        gc.enable()
    return first, max(first, kept + second)


class Layer(torch.nn.Module):
    """A transformer's layer with much that is cheap: RMS norm, a gate, GELU by its formula."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.up = torch.nn.Linear(width, 4 * width)
        self.gate = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        heads = self.qkv(self.norm(x)).view(batch, tokens, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        h = self.norm(x)
        gate = self.gate(h)
        gelu = 0.5 * gate * (1 + torch.tanh(0.7978845608 * (gate + 0.044715 * gate.pow(3))))
        return x + F.dropout(self.down(gelu * self.up(h)), 0.1)


class Model(torch.nn.Module):
    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(layers))
        self.head = torch.nn.Linear(64, 32)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(self.head(x).flatten(0, 1), y.flatten())


class Convolutions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(32)
        self.second = torch.nn.Conv2d(32, 64, 3, stride=2)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        x = F.relu(self.second(x))
        return F.cross_entropy(self.head(x.mean((2, 3))), y)


def gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=512, n_positions=128, n_embd=64, n_layer=2, n_head=4, use_cache=False,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).train()
    ids = torch.randint(0, 512, (4, 64))
    return model, {"input_ids": ids, "labels": ids, "return_dict": False}


def layers() -> Any:
    return Model(), {"x": torch.randn(8, 64, 64), "y": torch.randint(0, 32, (8, 64))}


def convolutions() -> Any:
    return Convolutions(), {"x": torch.randn(8, 3, 64, 64), "y": torch.randint(0, 10, (8,))}


CASES = pytest.mark.parametrize("make", [layers, gpt2, convolutions])


def gradients(f: Any, model: torch.nn.Module, arguments: Any) -> list[torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    result = f(**arguments)
    loss = result if isinstance(result, torch.Tensor) else result[0]
    loss.backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    return [loss.detach(), torch.rand(2), *found]


@CASES
@pytest.mark.parametrize("budget", [1, None, 0.5, 0.2, 0])
def test_no_budget_changes_a_number(make: Any, budget: float | None) -> None:
    model, arguments = make()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    expected = gradients(fulmen.jit(model, memory_budget=1), model, arguments)
    model.load_state_dict(state)
    got = gradients(fulmen.jit(model, memory_budget=budget), model, arguments)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@CASES
@pytest.mark.parametrize("budget", [1, None, 0.3])
def test_the_prediction_is_within_a_tenth(make: Any, budget: float | None) -> None:
    model, arguments = make()
    jitted = fulmen.jit(model, memory_budget=budget)
    gradients(jitted, model, arguments)
    first, whole = step_memory(lambda: jitted(**arguments))
    predicted = examine.memory(jitted)
    assert predicted.forward.peak == pytest.approx(first, rel=0.1)
    assert predicted.peak == pytest.approx(whole, rel=0.1)


def test_less_budget_is_less_memory() -> None:
    model, arguments = layers()
    peaks, kept = [], []
    for budget in (1, None, 0.5, 0.25):
        jitted = fulmen.jit(model, memory_budget=budget)
        gradients(jitted, model, arguments)
        peaks.append(step_memory(lambda f=jitted: f(**arguments))[1])
        kept.append(examine.memory(jitted).forward.end)
        KEPT.clear()
        model.zero_grad()
    eager = step_memory(lambda: model(**arguments))[1]
    assert peaks == sorted(peaks, reverse=True) and kept == sorted(kept, reverse=True)
    assert peaks[1] <= eager and peaks[-1] < 0.6 * eager
    assert kept[2] <= 0.5 * kept[0] and kept[3] <= 0.3 * kept[0]


def saved(f: Callable[[], Any]) -> int:
    """Distinct storages that are saved while f runs."""
    found = set()

    def pack(t: torch.Tensor) -> torch.Tensor:
        found.add(t.untyped_storage().data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        f()
    return len(found)


def test_what_is_cheap_is_not_saved() -> None:
    gate, up, down = (torch.randn(1024, 1024) / 32 for _ in range(3))

    def f(x: torch.Tensor) -> torch.Tensor:
        return (F.silu(x @ gate) * (x @ up)) @ down

    x = torch.randn(64, 1024, requires_grad=True)
    keeps, computes = fulmen.jit(f, memory_budget=1), fulmen.jit(f)
    for jitted in (keeps, computes):
        got = torch.autograd.grad(jitted(x).sum(), x)[0]
        assert torch.equal(got, torch.autograd.grad(f(x).sum(), x)[0])
    text = str(fulmen.last_traces(computes)[-1])
    assert "functional.silu" in text[text.index("def backward") : text.index("def computation")]
    assert examine.memory(computes).forward.end < examine.memory(keeps).forward.end


def test_products_and_random_numbers_are_not_computed_again_unasked() -> None:
    model, arguments = layers()
    jitted = fulmen.jit(model)
    gradients(jitted, model, arguments)
    text = str(fulmen.last_traces(jitted)[-1])
    backward = text[text.index("def backward") : text.index("def computation")]
    assert "bernoulli" not in backward and "functional.linear" not in backward


def test_an_input_that_eager_does_not_save_may_be_written() -> None:
    """The result of exp is what eager saves; it could be computed again from the input."""

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(x * 1).exp().sum()

    gradients = []
    for g in (f, fulmen.jit(f)):
        leaf = torch.ones(64, 64, requires_grad=True)
        x = leaf.clone()
        loss = g(x)
        with torch.no_grad():
            x.mul_(5)
        loss.backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


def test_a_buffer_that_the_program_writes_is_not_read_again() -> None:
    model, arguments = convolutions()
    jitted = fulmen.jit(model, memory_budget=0)
    for _ in range(2):
        gradients(jitted, model, arguments)


def test_a_long_chain_with_a_small_budget() -> None:
    """Computed again in segments: not all of it is alive at once."""
    weights = [torch.randn(64, 64, requires_grad=True) for _ in range(32)]

    def f(x: torch.Tensor) -> torch.Tensor:
        for w in weights:
            x = torch.tanh(x @ w)
        return x.sum()

    x = torch.randn(512, 64, requires_grad=True)
    whole, small = fulmen.jit(f, memory_budget=1), fulmen.jit(f, memory_budget=0.2)
    peaks = []
    for jitted in (whole, small):
        jitted(x).backward()
        x.grad = None
        for w in weights:
            w.grad = None
        peaks.append(step_memory(lambda g=jitted: g(x))[1])
    assert peaks[1] < 0.6 * peaks[0]


def test_gradients_of_a_part() -> None:
    model, arguments = layers()
    x = arguments["x"].requires_grad_()
    wanted = [x, *model.layers[1].parameters()]
    expected = None
    for budget in (1, None, 0.3):
        jitted = fulmen.jit(model, memory_budget=budget)
        torch.manual_seed(1)
        loss = jitted(**arguments)
        first = torch.autograd.grad(loss, wanted, retain_graph=True)
        again = torch.autograd.grad(loss, wanted[:1])
        expected = expected or first
        assert all(torch.equal(a, b) for a, b in zip(first, expected, strict=True))
        assert torch.equal(again[0], first[0])


def test_symbolic_sizes() -> None:
    def f(x: torch.Tensor, n: int) -> torch.Tensor:
        y = x.narrow(0, 0, n).sin()
        return (y * y.exp()).tanh().sum()

    jitted = fulmen.jit(f, cache="symbolic values", memory_budget=0.3)
    for n in (3, 5, 7):
        x = torch.randn(9, 4, requires_grad=True)
        got = torch.autograd.grad(jitted(x, n), x)[0]
        torch.testing.assert_close(got, torch.autograd.grad(f(x, n), x)[0])


def test_bad_budgets() -> None:
    for budget in ("half", True):
        with pytest.raises(fulmen.errors.UserTypeError, match="a number from 0 to 1"):
            fulmen.jit(torch.sin, memory_budget=budget)  # type: ignore[arg-type]
    for number in (-0.1, 1.5):
        with pytest.raises(fulmen.errors.UserValueError, match="memory_budget="):
            fulmen.jit(torch.sin, memory_budget=number)


def test_memory_of_what_did_not_run() -> None:
    with pytest.raises(fulmen.errors.UserValueError, match="without a program"):
        examine.memory(fulmen.jit(torch.sin))
    with pytest.raises(fulmen.errors.UserTypeError):
        examine.memory(torch.sin)


def test_memory_without_gradients() -> None:
    jitted = fulmen.jit(lambda x: (x.sin() + 1).cos())
    jitted(torch.ones(1024))
    (stage,) = examine.memory(jitted).stages
    assert (stage.name, stage.peak, stage.end) == ("forward", 8192, 4096)
    assert "forward" in str(examine.memory(jitted))
