"""fulmen.jit of a module: the result is the module in every respect but speed."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import fulmen


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
        self.norm = nn.BatchNorm1d(4)
        self.scale = 2.0
        self.register_buffer("offset", torch.ones(4))

    def forward(self, x: torch.Tensor, *, shift: float = 0.0) -> torch.Tensor:
        return self.norm(self.layers(x)) * self.scale + self.offset + shift


def pair() -> tuple[Net, Any, torch.Tensor]:
    net = Net().eval()
    return net, fulmen.jit(net), torch.randn(3, 4)


def test_same_state_dict() -> None:
    net, jitted, x = pair()
    jitted(x)
    assert list(jitted.state_dict()) == list(Net().state_dict())
    assert [n for n, _ in jitted.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert all(a is b for a, b in zip(jitted.parameters(), net.parameters(), strict=True))
    assert [n for n, _ in jitted.named_modules()] == [n for n, _ in net.named_modules()]


def test_load_state_dict_is_seen_by_the_next_call() -> None:
    net, jitted, x = pair()
    jitted(x)
    other = Net().eval()
    result = jitted.load_state_dict(other.state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    assert torch.equal(jitted(x), other(x))
    assert torch.equal(net(x), other(x))


def test_load_state_dict_that_assigns() -> None:
    _, jitted, x = pair()
    jitted(x)
    other = Net().eval()
    jitted.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(jitted(x), other(x))


@pytest.mark.parametrize("through", ["module", "jitted"])
def test_train_and_eval(through: str) -> None:
    net, jitted, x = pair()
    one = net if through == "module" else jitted
    for training in (False, True, False, True):
        one.train(training)
        assert net.training == jitted.training == training
        plain = copy.deepcopy(net)
        torch.manual_seed(1)
        expected = plain(x)
        torch.manual_seed(1)
        assert torch.equal(jitted(x), expected)
        assert torch.equal(net.norm.running_mean, plain.norm.running_mean)
        assert torch.equal(net.norm.num_batches_tracked, plain.norm.num_batches_tracked)
    assert fulmen.stats(jitted).splits == {}


def test_submodule_mode_alone() -> None:
    net, jitted, x = pair()
    jitted(x)
    net.layers[2].train()
    torch.manual_seed(1)
    expected = copy.deepcopy(net)(x)
    torch.manual_seed(1)
    assert torch.equal(jitted(x), expected)


@pytest.mark.parametrize("when", ["before", "after", "after a call"])
@pytest.mark.parametrize("on", ["module", "jitted", "submodule"])
def test_hooks(when: str, on: str) -> None:
    def build(register: bool) -> tuple[Net, Any, list[str]]:
        torch.manual_seed(0)
        net = Net().eval()
        jitted = fulmen.jit(net)
        seen: list[str] = []

        def pre_hook(module: nn.Module, args: Any) -> Any:
            seen.append("pre")
            return (args[0] * 2,)

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            seen.append("post")
            return output + 1

        if register:
            target = {"module": net, "jitted": jitted, "submodule": net.layers}[on]
            target.register_forward_pre_hook(pre_hook)
            target.register_forward_hook(hook)
        return net, jitted, seen

    x = torch.randn(3, 4)
    plain, _, _ = build(True)
    expected = plain(x)
    net, jitted, _ = build(when == "before")
    if when != "before":
        if when == "after a call":
            jitted(x)
        target = {"module": net, "jitted": jitted, "submodule": net.layers}[on]
        target.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        target.register_forward_hook(lambda m, args, output: output + 1)
    assert torch.equal(jitted(x), expected)


def test_keyword_hooks_and_removal() -> None:
    net, jitted, x = pair()
    pre = net.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"shift": kwargs["shift"] * 3}), with_kwargs=True
    )
    post = net.register_forward_hook(
        lambda m, args, kwargs, output: output * kwargs["shift"], with_kwargs=True
    )
    assert torch.equal(jitted(x, shift=1.0), net(x, shift=1.0))
    pre.remove()
    post.remove()
    assert torch.equal(jitted(x, shift=1.0), net(x, shift=1.0))


def test_always_called_hook_runs_after_an_error() -> None:
    net, jitted, _ = pair()
    calls: list[Any] = []
    net.register_forward_hook(lambda m, args, output: calls.append(output), always_call=True)
    for model in (net, jitted):
        calls.clear()
        with pytest.raises(RuntimeError):
            model(torch.randn(3, 5))
        assert calls == [None]


def test_backward_hook() -> None:
    net, jitted, x = pair()
    seen: list[Any] = []
    net.layers[3].register_full_backward_hook(lambda m, gi, go: seen.append(go[0].clone()))
    results = []
    for model in (net, jitted):
        seen.clear()
        net.zero_grad()
        model(x).sum().backward()
        results.append((seen[0], net.layers[0].weight.grad.clone()))
    assert len(seen) == 1
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_pickle() -> None:
    _, jitted, x = pair()
    expected = jitted(x)
    again = pickle.loads(pickle.dumps(jitted))
    assert isinstance(again, Net)
    assert torch.equal(again(x), expected)
    assert fulmen.stats(again).calls == 1


def test_torch_save_and_load() -> None:
    _, jitted, x = pair()
    expected = jitted(x)
    file = io.BytesIO()
    torch.save(jitted, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)
    file = io.BytesIO()
    torch.save(jitted.state_dict(), file)
    file.seek(0)
    plain = Net().eval()
    plain.load_state_dict(torch.load(file))
    assert torch.equal(plain(x), expected)


def test_deepcopy() -> None:
    net, jitted, x = pair()
    expected = jitted(x)
    other = copy.deepcopy(jitted)
    assert torch.equal(other(x), expected)
    with torch.no_grad():
        other.layers[0].weight.zero_()
    assert torch.equal(jitted(x), expected)
    assert not torch.equal(other(x), expected)
    assert fulmen.stats(other).calls == 2
    assert all(a is not b for a, b in zip(other.parameters(), net.parameters(), strict=True))


def test_shallow_copy() -> None:
    _, jitted, x = pair()
    assert torch.equal(copy.copy(jitted)(x), jitted(x))


def test_is_an_instance_of_its_class() -> None:
    net, jitted, _ = pair()
    assert isinstance(jitted, Net) and isinstance(jitted, nn.Module)
    assert type(jitted).__name__ == "Net"
    assert repr(jitted) == repr(net)
    assert fulmen.jit(jitted) is not net
    assert isinstance(fulmen.jit(jitted), Net)


def test_attributes_are_shared() -> None:
    net, jitted, x = pair()
    jitted(x)
    jitted.scale = 3.0
    assert net.scale == 3.0
    assert torch.equal(jitted(x), net(x))
    net.scale = 0.5
    assert jitted.scale == 0.5
    assert torch.equal(jitted(x), net(x))
    jitted.note = "text"
    assert net.note == "text"
    del net.note
    assert not hasattr(jitted, "note")
    with pytest.raises(AttributeError):
        _ = jitted.note
    jitted.offset = torch.zeros(4)
    assert net.offset is jitted.offset
    assert torch.equal(jitted(x), net(x))


def test_to_dtype() -> None:
    net, jitted, x = pair()
    jitted(x)
    assert jitted.to(torch.float64) is jitted
    assert net.layers[0].weight.dtype == torch.float64
    out = jitted(x.double())
    assert out.dtype == torch.float64 and torch.equal(out, net(x.double()))
    jitted.bfloat16()
    assert torch.equal(jitted(x.bfloat16()), net(x.bfloat16()))


def test_requires_grad() -> None:
    net, jitted, x = pair()
    assert jitted(x).requires_grad
    assert jitted.requires_grad_(False) is jitted
    assert not jitted(x).requires_grad
    net.layers[3].requires_grad_(True)
    jitted(x).sum().backward()
    assert net.layers[0].weight.grad is None and net.layers[3].weight.grad is not None


def test_replaced_submodule() -> None:
    net, jitted, x = pair()
    jitted(x)
    net.layers[1] = nn.GELU()
    assert torch.equal(jitted(x), net(x))
    jitted.layers.append(nn.Tanh())
    assert torch.equal(jitted(x), net(x))
    assert "layers.4" in dict(net.named_modules())


def test_replaced_parameter() -> None:
    net, jitted, x = pair()
    jitted(x)
    net.layers[0].weight = nn.Parameter(torch.randn(8, 4))
    assert torch.equal(jitted(x), net(x))


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW])
def test_optimizer_steps(optimizer_class: Any) -> None:
    torch.manual_seed(0)
    net = Net()
    plain = copy.deepcopy(net)
    jitted = fulmen.jit(net)
    x = torch.randn(6, 4)
    losses = []
    for model in (plain, jitted):
        torch.manual_seed(5)
        optimizer = optimizer_class(model.parameters(), lr=0.1)
        history = []
        for _ in range(4):
            optimizer.zero_grad()
            loss = (model(x) - x).square().mean()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses.append(history)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert fulmen.stats(jitted).cache_misses == 1
    assert fulmen.stats(jitted).cache_hits == 3


def test_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    net = Tied()
    plain = copy.deepcopy(net)
    jitted = fulmen.jit(net)
    ids = torch.tensor([1, 2, 3])
    assert torch.equal(jitted(ids), plain(ids))
    jitted(ids).sum().backward()
    plain(ids).sum().backward()
    assert jitted.head.weight is jitted.embed.weight
    assert len(list(jitted.parameters())) == 1
    torch.testing.assert_close(jitted.embed.weight.grad, plain.embed.weight.grad)


def test_weak_references() -> None:
    net, jitted, x = pair()
    jitted(x)
    module_ref, jitted_ref = weakref.ref(net), weakref.ref(jitted)
    assert jitted_ref() is jitted
    del jitted
    torch._dynamo.reset()
    gc.collect()
    assert jitted_ref() is None
    del net
    gc.collect()
    assert module_ref() is None


def test_as_a_part_of_another_module() -> None:
    net, jitted, x = pair()
    outer = nn.Sequential(jitted, nn.Linear(4, 2))
    plain = nn.Sequential(net, outer[1])
    assert list(outer.state_dict()) == list(plain.state_dict())
    assert torch.equal(outer(x), plain(x))
    assert fulmen.stats(jitted).calls == 1


def test_other_methods_run_eagerly_on_the_same_state() -> None:
    net, jitted, x = pair()
    assert torch.equal(jitted.forward(x), net(x))
    names: list[str] = []
    jitted.apply(lambda m: names.append(type(m).__name__))
    assert "Linear" in names
    assert jitted.get_submodule("layers.0") is net.layers[0]
    assert dict(jitted.named_children()).keys() == {"layers", "norm"}


def test_batch_norm_statistics() -> None:
    net = nn.BatchNorm2d(3)
    plain = copy.deepcopy(net)
    jitted = fulmen.jit(net)
    for _ in range(3):
        x = torch.randn(2, 3, 4, 4)
        assert torch.equal(jitted(x), plain(x))
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, plain.get_buffer(name)), name


def test_dropout_rate() -> None:
    jitted = fulmen.jit(nn.Dropout(0.3))
    x = torch.ones(100_000)
    first, second = jitted(x), jitted(x)
    assert not torch.equal(first, second)
    for out in (first, second):
        assert abs((out == 0).float().mean().item() - 0.3) < 0.01
        assert torch.equal(out[out != 0].unique(), torch.tensor([1 / 0.7]))
