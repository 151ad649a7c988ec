"""Programs that must fail: the type, the id and the exact text."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fulmen

HERE = Path(__file__).name
X = torch.ones(2, 3)
LINEAR = nn.Linear(4, 2)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


Program = Callable[[torch.Tensor], Any]

# program, the id and the text when traced.
TRACED: list[tuple[Program, str, str]] = [
    (
        lambda x: x + torch.ones(4, 3),
        "broadcast",
        "add(): shapes (2, 3) and (4, 3) do not broadcast; got sizes 2 and 4 at dimension 0; "
        "expected equal sizes, or 1",
    ),
    (
        lambda x: x @ x,
        "matmul-shape",
        "matmul(): shapes (2, 3) and (2, 3) cannot be multiplied; expected the inner sizes to be "
        "equal",
    ),
    (
        lambda x: LINEAR(x),
        "matmul-shape",
        "linear(): input of shape (2, 3) and weight of shape (2, 4) cannot be multiplied; expected "
        "equal last sizes",
    ),
    (
        lambda x: torch.cat([x, torch.ones(2, 2)]),
        "cat",
        "cat(): Sizes of tensors must match except in dimension 0. Got (2, 3) and (2, 2)",
    ),
    (
        lambda x: x @ x.t().double(),
        "dtype-mismatch",
        "matmul(): tensors must have the same dtype; got float32 and float64",
    ),
    (
        lambda x: x + torch.ones(2, 3, device="meta"),
        "device-mismatch",
        "add(): Expected all tensors to be on the same device, but found at least two devices, "
        "cpu and meta!",
    ),
    (
        lambda x: torch.softmax(x, 3),
        "dim-out-of-range",
        "softmax(): Dimension out of range (expected to be in range of [-2, 1], but got 3)",
    ),
    (
        lambda x: x.view(4),
        "reshape",
        "view(): shape (4,) is invalid for input of size 6",
    ),
    (
        lambda x: F.embedding(x, x),
        "index-dtype",
        "embedding(): indices must be int64 or int32; got float32",
    ),
    (
        lambda x: torch.stack([]),
        "empty-list",
        "stack(): stack expects a non-empty TensorList",
    ),
]
ids = [id for _, id, _ in TRACED]


def line_of(program: Any) -> int:
    return program.__code__.co_firstlineno


def where(program: Any) -> str:
    """The user's innermost line; nn.Linear's is torch's own, so the lambda's counts."""
    return f"  [{HERE}:{line_of(program)} in <lambda>]"


@pytest.mark.parametrize(("program", "id", "text"), TRACED, ids=ids)
def test_tracing(program: Program, id: str, text: str) -> None:
    with pytest.raises(fulmen.UserError) as info:
        fulmen.trace(program)(X)
    assert info.value.id == id
    assert str(info.value) == text + where(program)
    with pytest.raises(Exception) as eager:
        program(X)
    assert isinstance(info.value, eager.type)


@pytest.mark.parametrize(("program", "id", "text"), TRACED, ids=ids)
def test_jitted(program: Program, id: str, text: str) -> None:
    """Eager's type; eager's text, or the row's; the user's line."""
    with pytest.raises(Exception) as eager:
        program(X)
    with pytest.raises(fulmen.UserError) as info:
        fulmen.jit(program)(X)
    assert isinstance(info.value, eager.type)
    assert str(info.value.__cause__) == str(eager.value)
    assert info.value.id == id and str(info.value) == text + where(program)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x.sum(2),
        lambda x: x[5],
        lambda x: x.permute(0),
        lambda x: x + "a",
        lambda x: torch.relu(x, x, 3),
        lambda x: torch.relu(x, foo=1),
        lambda x: torch.relu(None),
        lambda x: x.nope(),
        lambda x: F.gelu(x, approximate="other"),
        lambda x: x.view(2, 2, -1),
    ],
)
def test_other_mistakes_are_eagers(program: Program) -> None:
    with pytest.raises(Exception) as eager:
        program(X)
    with pytest.raises(eager.type) as info:
        fulmen.jit(program)(X)
    if isinstance(info.value, fulmen.UserError):
        assert str(info.value).endswith(where(program))
        assert str(info.value.__cause__) == str(eager.value)
    else:
        assert str(info.value) == str(eager.value)


def test_users_own_exceptions_pass() -> None:
    class Mine(Exception):
        pass

    def fn(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        if x.shape[0] == 2:
            raise Mine("text")
        return y

    with pytest.raises(Mine, match=r"^text$"):
        fulmen.jit(fn)(X)


def test_in_place_on_a_leaf() -> None:
    w = torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError) as info:
        fulmen.trace(lambda w: w.add_(1))(w)
    assert info.value.id == "inplace-on-leaf"
    with pytest.raises(RuntimeError, match="leaf"):
        fulmen.jit(lambda w: w.add_(1))(w)
    assert torch.equal(w, torch.ones(3))


def test_wrong_arguments_of_a_jitted_function() -> None:
    jitted = fulmen.jit(lambda x, y: x + y)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        jitted(X)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        jitted(X, X, X)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        jitted(X, X, z=1)


def dispatch() -> Any:
    """A compiled x + y for two (2, 3) tensors, without a compiler behind it."""
    graph = torch.fx.symbolic_trace(lambda x, y: x + y)
    return fulmen.dynamo.compile_fx_graph(graph, [X, X]).dispatch


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ((X,), "got 1 arguments; expected 2"),
        ((X, X, X), "got 3 arguments; expected 2"),
        ((X, X.t()), "argument 'y': got f32[3, 2]{1, 3}; expected f32[2, 3]"),
        ((X, X.double()), "argument 'y': got f64[2, 3]; expected f32[2, 3]"),
        ((X, 3), "argument 'y': got an object of type int; expected a tensor f32[2, 3]"),
        ((X.clone().requires_grad_(), X), "argument 'x': got "),
        ((X, X.to("meta")), "argument 'y': got "),
    ],
)
def test_a_program_explains_what_it_refuses(args: tuple[Any, ...], reason: str) -> None:
    (why,) = dispatch().explain(*args)
    assert why.startswith(reason), why


def test_a_dispatch_takes_positional_arguments_only() -> None:
    with pytest.raises(TypeError, match="a compiled program takes positional arguments only"):
        dispatch()(X, y=X)


def test_failing_instruction_has_the_users_line_as_a_note() -> None:
    def fn(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        y = x + 1
        return torch.index_select(y, 0, index)  # the line

    jitted = fulmen.jit(fn)
    good = torch.tensor([0, 1])
    assert torch.equal(jitted(X, good), fn(X, good))
    with pytest.raises(IndexError, match="out of range") as info:
        jitted(X, torch.tensor([0, 7]))
    notes = getattr(info.value, "__notes__", [])
    line = line_of(fn) + 2
    assert any(f"[{HERE}:{line} in fn]" in note for note in notes), notes
    assert torch.equal(jitted(X, good), fn(X, good)), "the program still works"


def test_grad_mode_after_a_failing_instruction() -> None:
    def fn(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.index_select(x, 0, index)

    jitted = fulmen.jit(fn)
    jitted(X, torch.tensor([0]))
    with pytest.raises(IndexError):
        jitted(X, torch.tensor([9]))
    assert torch.is_grad_enabled()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)[:, : x.shape[0]])


class Failing(fulmen.Transform):
    def transform_trace_post_optimization(self, trace: fulmen.Trace) -> fulmen.Trace:
        raise ValueError("a transform that fails")


@pytest.mark.parametrize("training", [True, False])
def test_a_failed_compilation_leaves_everything_as_it_was(training: bool) -> None:
    net = Net().train(training)
    before = copy.deepcopy(net)
    versions = {n: p._version for n, p in net.state_dict(keep_vars=True).items()}
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="a transform that fails"):
        fulmen.jit(net, transforms=[Failing()])(torch.ones(4, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training == training
    for name, value in net.state_dict(keep_vars=True).items():
        assert torch.equal(value, before.state_dict()[name]), name
        assert value._version == versions[name], name
        assert value.grad is None
    assert torch.is_grad_enabled()
    torch.manual_seed(1)
    expected = before(torch.ones(4, 3))
    torch.manual_seed(1)
    assert torch.equal(fulmen.jit(net)(torch.ones(4, 3)), expected)


def test_a_refused_call_leaves_what_eager_leaves() -> None:
    net = Net()
    plain = copy.deepcopy(net)
    for model in (plain, fulmen.jit(net)):
        torch.manual_seed(0)
        with pytest.raises(RuntimeError):
            model(torch.ones(3, 3))
        net_state = torch.get_rng_state()
        model.rng = net_state
    assert torch.equal(net.rng, plain.rng)
    for (name, a), (_, b) in zip(net.state_dict().items(), plain.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_tracing_a_wrong_program_leaves_the_module_alone() -> None:
    net = Net()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    with pytest.raises(fulmen.UserError):
        fulmen.trace(net)(torch.ones(3, 3))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_user_errors_are_what_they_say() -> None:
    for kind in ("Runtime", "Type", "Value", "Index", "NotImplemented"):
        cls = getattr(fulmen.errors, f"User{kind}Error")
        assert issubclass(cls, fulmen.UserError)
        builtin = {"NotImplemented": NotImplementedError}.get(kind) or eval(f"{kind}Error")
        assert issubclass(cls, builtin)
        assert cls("text", "some-id").id == "some-id" and str(cls("text")) == "text"
    assert not issubclass(fulmen.InternalError, fulmen.UserError)
