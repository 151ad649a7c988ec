"""A TensorProxy is a torch.Tensor to PyTorch's own argument parser, whatever overload it tries."""

import gc
import weakref

import pytest
import torch

import fulmen

X = torch.randn(3)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.isin(x, 2),
        lambda x: torch.isin(2, x),
        lambda x: torch.linspace(x[0], x[1], 4),
        lambda x: torch.signal.windows.kaiser(5, beta=x.numel()) + x[0],
        lambda x: torch.Tensor.add(x, 1),
        lambda x: torch.pow(2, x),
        lambda x: torch.where(x > 0, 1.0, x),
        lambda x: torch.bucketize(2, x),
        lambda x: torch.Tensor.mul_(x.clone(), 2),
    ],
)
def test_every_overload_takes_a_proxy(call):
    trace = fulmen.trace(call)(X)
    assert tuple(trace.output.shape) == tuple(call(X).shape)
    assert trace.output.dtype == call(X).dtype


def test_a_proxy_is_a_tensor():
    seen = {}

    def look(x):
        seen["x"] = (isinstance(x, torch.Tensor), torch.is_tensor(x), x.__class__ is torch.Tensor)
        x.note = "kept"
        seen["note"] = x.note
        seen["ref"] = weakref.ref(x)
        return x + 1

    fulmen.trace(look)(X)
    gc.collect()
    assert seen["x"] == (True, True, True)
    assert seen["note"] == "kept"
    assert seen["ref"]() is None


def test_assigning_to_data_is_refused():
    def assign(x):
        x.data = torch.zeros(3)
        return x

    with pytest.raises(fulmen.errors.Unsupported, match=r"assigning to \.data"):
        fulmen.trace(assign)(X)


def test_making_one_by_hand_is_an_error():
    with pytest.raises(TypeError, match="made by a trace"):
        _ = fulmen.TensorProxy().shape
