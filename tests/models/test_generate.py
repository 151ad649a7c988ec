"""`generate()` of a jitted model: eager's tokens, and a bounded number of programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from zoo import ROWS
from zoo_row import tokens

NEW, PROMPT = 6, 5
GREEDY: dict[str, Any] = {"do_sample": False}
SAMPLING: dict[str, Any] = {"do_sample": True, "top_k": 40, "temperature": 4.0}
STATIC: dict[str, Any] = {"cache_implementation": "static"}
_ROWS = {row.name: row for row in ROWS}


def _build(name: str) -> torch.nn.Module:
    """With weights so large that the tokens vary: they depend on the layers and the whole text."""
    row = _ROWS[name]
    wide: dict[str, Any] = {"initializer_range": 0.3}
    if name == "t5":
        wide = {"initializer_factor": 5.0, "tie_word_embeddings": False}
    return dataclasses.replace(row, settings={**row.settings, **wide}).build()


def _generate(model: Any, seed: int = 1, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens, and the state of the random numbers after them."""
    ids = tokens(seed, 2, PROMPT)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    torch.manual_seed(0)
    found = model.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, **settings
    )
    return found, torch.get_rng_state()


def _check_same(compiled: Any, model: Any, seed: int = 1, **settings: Any) -> None:
    expected, expected_state = _generate(model, seed, **settings)
    got, state = _generate(compiled, seed, **settings)
    assert torch.equal(got, expected)
    assert torch.equal(state, expected_state), "another number of random draws"
    assert got.unique().numel() > 4, "always the same token: nothing is tested"


by_name = pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "t5"])


@by_name
@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_growing_cache(name: str, settings: dict[str, Any], jit_front_end: Any) -> None:
    """A program for each length; the same lengths again need no other."""
    compiled, stats = jit_front_end(_build(name))
    _check_same(compiled, _build(name), **settings)
    programs = stats().cache_misses
    assert 0 < programs <= NEW
    assert stats().splits == {}
    _check_same(compiled, _build(name), seed=2, **settings)
    assert stats().cache_misses == programs


@by_name
@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_static_cache(name: str, settings: dict[str, Any], jit_front_end: Any) -> None:
    """A program for the prompt and one for a token, however many tokens there are."""
    compiled, stats = jit_front_end(_build(name))
    _check_same(compiled, _build(name), **settings, **STATIC)
    assert 0 < stats().cache_misses <= 3
    assert stats().splits == {}


@by_name
def test_without_cache(name: str, jit_front_end: Any) -> None:
    compiled, stats = jit_front_end(_build(name))
    _check_same(compiled, _build(name), use_cache=False, **GREEDY)
    assert 0 < stats().cache_misses <= NEW
    assert stats().splits == {}


def test_the_result_is_of_eagers_class(jit_front_end: Any) -> None:
    model = _build("llama")
    compiled, _ = jit_front_end(_build("llama"))
    settings = {"return_dict_in_generate": True, "output_logits": True, "max_new_tokens": NEW}
    ids = tokens(1, 2, PROMPT)
    expected, got = (m.generate(ids, do_sample=False, **settings) for m in (model, compiled))
    assert type(got) is type(expected)
    assert list(got.keys()) == list(expected.keys())
    assert torch.equal(got.sequences, expected.sequences)
    # transformers masks otherwise where a compiler captures it, so the bits may differ.
    torch.testing.assert_close(got.logits, expected.logits)
    assert got.past_key_values.get_seq_length() == expected.past_key_values.get_seq_length()
