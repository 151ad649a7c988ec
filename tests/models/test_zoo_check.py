"""The check of the zoo accepts eager itself, and notices each way of being wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fulmen.stats import Stats
from zoo import ROWS
from zoo_check import Change, PassThrough, check_calls

_ROWS = {row.name: row for row in ROWS}


def check(
    name: str, change: Change | None = None, adjust: Callable[[Any], Any] | None = None
) -> None:
    def compile_model(model: torch.nn.Module) -> tuple[Any, Any]:
        compiled = PassThrough(model, change) if change else PassThrough(model)
        return compiled, lambda: adjust(compiled.stats) if adjust else compiled.stats

    check_calls(_ROWS[name].build, _ROWS[name].calls(), compile_model)


@pytest.mark.parametrize(
    "name", ["llama", "bert", "t5", "mixtral", "mamba", "recurrent-gemma", "resnet", "whisper",
             "vilt", "clip"],
)  # fmt: skip
def test_eager_passes(name: str) -> None:
    check(name)


def next_float(result: Any, inputs: Any, number: int) -> Any:
    result.logits[0, 0, 0] = torch.nextafter(result.logits[0, 0, 0], torch.tensor(9.0))
    return result


def plain_dict(result: Any, inputs: Any, number: int) -> Any:
    return dict(result)


def less_keys(result: Any, inputs: Any, number: int) -> Any:
    return type(result)(logits=result.logits)


def other_strides(result: Any, inputs: Any, number: int) -> Any:
    result["logits"] = result.logits.mT.contiguous().mT
    return result


def stale_cache(result: Any, inputs: Any, number: int) -> Any:
    if result.past_key_values is not None:
        result.past_key_values.layers[-1].values[-1].zero_()
    return result


def cache_of_other_class(result: Any, inputs: Any, number: int) -> Any:
    if result.past_key_values is not None:
        layer = result.past_key_values.layers[0]
        layer.__class__ = type("Other", (type(layer),), {})
    return result


def draws_random_numbers(result: Any, inputs: Any, number: int) -> Any:
    torch.rand(1)
    return result


def writes_to_arguments(result: Any, inputs: Any, number: int) -> Any:
    inputs["input_ids"][0, 0] = 7
    return result


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (next_float, r"first\['logits'\]: values differ by at most"),
        (plain_dict, "first: got <class 'dict'>"),
        (less_keys, "use_cache: keys: got"),
        (other_strides, "strides"),
        (stale_cache, r"past_key_values'\].layers\[1\].values: values differ"),
        (cache_of_other_class, r"past_key_values'\].layers\[0\]: got"),
        (draws_random_numbers, "first: random numbers drawn"),
        (writes_to_arguments, r"first: arguments\['input_ids'\]: values differ"),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_a_wrong_result_fails(change: Change, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check("llama", change)


def test_a_result_of_other_values_fails() -> None:
    """A program that baked in the values of its first inputs."""
    first: dict[Any, Any] = {}

    def bake(result: Any, inputs: Any, number: int) -> Any:
        return first.setdefault((inputs["input_ids"].shape, inputs.get("use_cache")), result)

    with pytest.raises(AssertionError, match="other values"):
        check("llama", bake)


def test_lost_state_fails() -> None:
    """RecurrentGemma keeps its recurrent state in the module."""

    def compile_model(model: torch.nn.Module) -> tuple[Any, Any]:
        compiled = PassThrough(copy.deepcopy(model))
        return compiled, lambda: compiled.stats

    row = _ROWS["recurrent-gemma"]
    with pytest.raises(AssertionError, match="state"):
        check_calls(row.build, row.calls(), compile_model)


def _recompiling(stats: Any) -> Any:
    return Stats(calls=stats.calls, cache_misses=stats.calls)


def _splitting(stats: Any) -> Any:
    return Stats(calls=stats.calls, cache_misses=1, splits={"node": "reason"})


def _uncounted(stats: Any) -> Any:
    return Stats(calls=0, cache_misses=stats.cache_misses)


@pytest.mark.parametrize("adjust", [_recompiling, _splitting, _uncounted])
def test_wrong_counts_fail(adjust: Callable[[Any], Any]) -> None:
    with pytest.raises(AssertionError):
        check("llama", adjust=adjust)
