from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import fulmen

# Models are built from their configurations; nothing is fetched.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    """Each test compiles anew: torch.compile keeps programs by the model's code object."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _jit(model: Any) -> tuple[Callable[..., Any], Callable[[], Any]]:
    jitted = fulmen.jit(model)
    return jitted, lambda: fulmen.stats(jitted)


def _torch_compile(model: Any) -> tuple[Callable[..., Any], Callable[[], Any]]:
    compiler = fulmen.dynamo.FulmenCompiler()
    return torch.compile(model, backend=compiler), compiler.stats


@pytest.fixture(params=[_jit, _torch_compile], ids=["jit", "torch_compile"])
def front_end(request: pytest.FixtureRequest) -> Any:
    """model → (compiled model, function that returns its Stats)."""
    return request.param


@pytest.fixture
def jit_front_end() -> Any:
    return _jit
