"""Activation checkpoints: followed inline, computed again by the backward, with eager's numbers."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import fulmen

BOTH = pytest.mark.parametrize("use_reentrant", [False, True])


class Block(torch.nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(16)
        self.up = torch.nn.Linear(16, 32)
        self.down = torch.nn.Linear(32, 16)
        self.dropout = dropout

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        inner = self.down(F.gelu(self.up(self.norm(x)))) * scale
        return x + F.dropout(inner, self.dropout, self.training)


class Stack(torch.nn.Module):
    def __init__(self, call: Callable[..., Any], dropout: float = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = torch.nn.ModuleList(Block(dropout) for _ in range(3))
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = self.call(block, x)
        return x.square().mean()


def inputs() -> torch.Tensor:
    return torch.randn(4, 8, 16, requires_grad=True)


def step(f: Callable[..., Any], x: torch.Tensor, parameters: Any = ()) -> list[torch.Tensor | None]:
    """A step from seed 1: the loss, the gradients, and random numbers drawn after it."""
    parameters = list(parameters)
    for t in (x, *parameters):
        t.grad = None
    torch.manual_seed(1)
    loss = f(x)
    between = torch.rand(2)
    loss.backward()
    return [loss.detach(), between, torch.rand(2), x.grad, *(p.grad for p in parameters)]


def same(got: list[Any], expected: list[Any]) -> bool:
    return all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(got, expected, strict=True)
    )


def saved_sizes(f: Callable[[], Any]) -> list[int]:
    """Elements of what is saved while f runs, parameters apart."""
    sizes: list[int] = []

    def pack(t: torch.Tensor) -> torch.Tensor:
        if not isinstance(t, torch.nn.Parameter) and t.dtype != torch.uint8:
            sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        f()
    return sizes


def marks(text: str) -> list[str]:
    return re.findall(r"  checkpoint (\d+)$", text, re.MULTILINE)


@BOTH
def test_dropout_gives_the_gradients_of_eager(use_reentrant: bool) -> None:
    model = Stack(functools.partial(checkpoint, use_reentrant=use_reentrant))
    x = inputs()
    jitted = fulmen.jit(model, fullgraph=True)
    expected = step(model, x, model.parameters())
    for _ in range(2):
        assert same(step(jitted, x, model.parameters()), expected)


def test_nothing_from_inside_is_saved() -> None:
    plain = Stack(lambda block, x: block(x))
    marked = Stack(functools.partial(checkpoint, use_reentrant=False))
    x = inputs()
    jitted = fulmen.jit(marked, fullgraph=True)
    jitted(x)
    # Each block's input, and the last result.
    assert sorted(saved_sizes(lambda: jitted(x))) == [x.numel()] * 4
    whole = fulmen.jit(plain, memory_budget=1)
    whole(x)
    assert max(saved_sizes(lambda: whole(x))) == 2 * x.numel()


def test_the_trace_says_what_is_a_checkpoint() -> None:
    jitted = fulmen.jit(Stack(functools.partial(checkpoint, use_reentrant=False)))
    jitted(inputs())
    acquired = fulmen.last_traces(jitted)[0]
    text = str(acquired)
    assert {int(m) for m in marks(text)} == {1, 2, 3}
    assert not marks(text[text.index("torch.square") :])
    assert str(fulmen.parse_trace(text)) == text


def test_a_printed_program_runs() -> None:
    model = Stack(functools.partial(checkpoint, use_reentrant=False))
    jitted = fulmen.jit(model)
    x = inputs()
    expected = step(jitted, x, model.parameters())
    text = str(fulmen.last_traces(jitted)[-1])
    assert "exchange_random_state" in text
    assert str(fulmen.parse_trace(text)) == text
    names: dict[str, Any] = {}
    exec(text, names)
    found = dict(model.named_parameters())
    arguments = [x, *_in_order(names["computation"], found)]
    assert same(step(lambda _: names["computation"](*arguments)[0], x, found.values()), expected)


def _in_order(computation: Any, parameters: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    by_name = {"modules_" + n.replace(".", "_"): p for n, p in parameters.items()}
    code = computation.__code__
    wanted = [n for n in code.co_varnames[: code.co_argcount] if n != "x"]
    return [next(p for n, p in by_name.items() if w.endswith(n[8:])) for w in wanted]


@BOTH
def test_without_grad_it_is_a_call(use_reentrant: bool) -> None:
    model = Stack(functools.partial(checkpoint, use_reentrant=use_reentrant)).eval()
    jitted = fulmen.jit(model, fullgraph=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        x = torch.randn(4, 8, 16)
        assert torch.equal(jitted(x), model(x))
    assert not marks("".join(map(str, fulmen.last_traces(jitted))))


def test_keywords() -> None:
    block = Block()

    def f(x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(block, x, use_reentrant=False, preserve_rng_state=True, scale=2.0)
        return checkpoint(block, y, scale=0.5, use_reentrant=False).sum()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x, block.parameters()), step(f, x, block.parameters()))


@BOTH
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_nested(use_reentrant: bool) -> None:
    inner = functools.partial(checkpoint, use_reentrant=use_reentrant)
    model = Stack(inner)

    def f(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda y: model(y) * 2, x, use_reentrant=use_reentrant)

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x, model.parameters()), step(f, x, model.parameters()))
    assert max(saved_sizes(lambda: jitted(x))) == x.numel()


@BOTH
def test_sequential(use_reentrant: bool) -> None:
    blocks = torch.nn.Sequential(*(Block() for _ in range(4)))

    def f(x: torch.Tensor) -> torch.Tensor:
        return checkpoint_sequential(blocks, 2, x, use_reentrant=use_reentrant).square().sum()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x, blocks.parameters()), step(f, x, blocks.parameters()))


def test_some_results_and_some_inputs() -> None:
    def inside(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        y = torch.tanh(x * w)
        return y.exp(), y.sin() * w, 3

    def f(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b, n = checkpoint(inside, x, w, use_reentrant=False)
        return (a * n).cos(), b.sigmoid()

    x, w = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    jitted = fulmen.jit(f, fullgraph=True)
    for result in (0, 1):
        for wanted in ((x,), (w,), (x, w)):
            got = torch.autograd.grad(jitted(x, w)[result].sum(), wanted)
            assert same(list(got), list(torch.autograd.grad(f(x, w)[result].sum(), wanted)))
    both = jitted(x, w)
    got = torch.autograd.grad(both[0].sum(), (x, w), retain_graph=True)
    again = torch.autograd.grad(both[0].sum() + both[1].sum(), (x, w))
    assert same(list(got), list(torch.autograd.grad(f(x, w)[0].sum(), (x, w))))
    torch.testing.assert_close(again, torch.autograd.grad(sum(r.sum() for r in f(x, w)), (x, w)))


def test_second_derivatives() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda y: (y.sin() * y.exp()).tanh(), x, use_reentrant=False).sum()

    x = torch.randn(5, dtype=torch.float64, requires_grad=True)

    def second(g: Callable[..., Any]) -> torch.Tensor:
        (first,) = torch.autograd.grad(g(x), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(second(fulmen.jit(f, fullgraph=True)), second(f))


def test_autocast() -> None:
    model = Stack(functools.partial(checkpoint, use_reentrant=False))

    def f(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x, model.parameters()), step(f, x, model.parameters()))


def test_inplace_on_its_own_values() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        def inside(y: torch.Tensor) -> torch.Tensor:
            z = y * 2
            z.mul_(3).relu_()
            return z.exp()

        return checkpoint(inside, x, use_reentrant=False).sum()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x), step(f, x))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


def _contexts() -> Any:
    return torch.utils.checkpoint.noop_context_fn()


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(16)
        self.blocks = torch.nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(lambda z: self.norm(self.blocks(z)), x.flatten(0, 1), use_reentrant=False)
        return y.square().sum()


LEFT_TO_EAGER = {
    "context_fn": lambda x: checkpoint(torch.sin, x, use_reentrant=False, context_fn=_contexts),
    "debug": lambda x: checkpoint(torch.sin, x, use_reentrant=False, debug=True),
    "draws random numbers": lambda x: checkpoint(
        lambda y: F.dropout(y, 0.5), x, use_reentrant=False, preserve_rng_state=False
    ),
    "differentiated by PyTorch": lambda x: checkpoint(Doubled.apply, x, use_reentrant=False),
    "asked for": lambda x: checkpoint(
        lambda y: y.sin() if y.sum() > 0 else y.cos(), x, use_reentrant=False
    ),
    "returns its input": lambda x: checkpoint(lambda y: y, x, use_reentrant=True),
    "without gradient": lambda x: checkpoint(
        lambda y: (y.sin(), torch.ones(2)), x, use_reentrant=True
    )[0],
    "returns a dict": lambda x: (
        checkpoint(lambda y: {"a": y.sin()}, x, use_reentrant=True)["a"] + x
    ),
}


@pytest.mark.parametrize("reason", LEFT_TO_EAGER)
def test_left_to_eager_with_a_reason(reason: str) -> None:
    function: Any = LEFT_TO_EAGER[reason]

    def f(x: torch.Tensor) -> torch.Tensor:
        return function(x).sum()

    x = inputs()
    jitted = fulmen.jit(f)
    assert same(step(jitted, x), step(f, x))
    assert reason in fulmen.stats(jitted).splits["the whole function"]


def test_what_is_written_twice_is_left_to_eager() -> None:
    models = [Counting(), Counting()]
    models[1].load_state_dict(models[0].state_dict())
    jitted = fulmen.jit(models[1])
    x = inputs()
    assert same(step(models[0], x), step(jitted, x))
    for a, b in zip(models[0].buffers(), models[1].buffers(), strict=True):
        assert torch.equal(a, b)
    assert "would do so twice" in fulmen.stats(jitted).splits["the whole function"]


def test_errors_are_those_of_eager() -> None:
    def unexpected(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(torch.sin, x, use_reentrant=True, scale=2)

    def raises(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda y: y @ torch.ones(3), x, use_reentrant=False)

    def unknown(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(torch.sin, x, use_reentrant=False, determinism_check="all")

    for f in (unexpected, raises, unknown):
        with pytest.raises((ValueError, RuntimeError)) as eager:
            f(inputs())
        with pytest.raises(eager.type) as got:
            fulmen.jit(f)(inputs())
        if f is not raises:  # whose message is our own
            assert str(got.value) == str(eager.value)


def test_an_exception_that_is_caught_ends_it() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        def fails(y: torch.Tensor) -> torch.Tensor:
            y.sin()
            raise KeyError("no")

        with contextlib.suppress(KeyError):
            checkpoint(fails, x, use_reentrant=False)
        return x.exp().sum()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    assert same(step(jitted, x), step(f, x))
    text = str(fulmen.last_traces(jitted)[0])
    assert not marks(text[text.index("torch.exp") :])


def test_warnings_are_those_of_eager() -> None:
    def unsaid(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(torch.sin, x).sum()

    def constant(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(torch.sin, x.detach(), use_reentrant=True).sum() + x.sum()

    for f in (unsaid, constant):
        heard = []
        for g in (f, fulmen.jit(f)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                step(g, inputs())
            heard.append([(w.category, str(w.message)) for w in caught])
        assert heard[0] == heard[1] and heard[0]


def test_a_parameter_of_no_argument_that_requires_grad() -> None:
    """use_reentrant=True without an input that requires grad gives no gradients at all."""
    block = Block()

    def f(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(block, x.detach(), use_reentrant=True).sum() + x.sum()

    x = inputs()
    jitted = fulmen.jit(f, fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(step(jitted, x, block.parameters()), step(f, x, block.parameters()))
    assert all(p.grad is None for p in block.parameters())


def hugging_face(name: str) -> Any:
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 97}
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=97, n_positions=64, n_embd=32, n_layer=2, n_head=4, use_cache=False,
            bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config)
    if name == "llama":
        config = transformers.LlamaConfig(**sizes, intermediate_size=64, use_cache=False)
        return transformers.LlamaForCausalLM(config)
    return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, intermediate_size=64))


@BOTH
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_hugging_face_models_train_through_it(name: str, use_reentrant: bool) -> None:
    model = hugging_face(name).train()
    plain = fulmen.jit(model, fullgraph=True)
    ids = torch.randint(0, 97, (2, 16))

    def run(f: Any) -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        loss = f(input_ids=ids, labels=ids).loss
        loss.backward()
        return [loss.detach(), torch.rand(2), *(p.grad for p in model.parameters())]

    without = run(plain)
    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": use_reentrant}
    )
    if use_reentrant:
        model.enable_input_require_grads()
    jitted = fulmen.jit(model, fullgraph=True)
    got = run(jitted)
    assert marks(str(fulmen.last_traces(jitted)[0]))[-1] == "2"
    assert same(got, without)
    for a, b in zip(got, run(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
