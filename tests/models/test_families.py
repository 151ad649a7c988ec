"""Every family, through both front ends, against eager: forward, training, caches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compare import assert_as_accurate, assert_same_structure, gradients, in_float64, to_dtype
from families import FAMILIES, Family

by_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def check_stats(stats: Any, family: Family) -> None:
    assert stats.splits == {}
    assert set(stats.fallbacks) <= family.fallbacks, "torch functions without a row"
    if not family.data_dependent:
        assert stats.recompiles == []


@by_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_inference(family: Family, dtype: torch.dtype, front_end: Any) -> None:
    model = family.build().eval().to(dtype)
    inputs = to_dtype(family.inputs(), dtype)
    compiled, stats = front_end(model)
    with torch.no_grad():
        expected = model(**inputs)
        for _ in range(2):
            got = compiled(**inputs)
            assert_same_structure(got, expected)
            assert_as_accurate(got, expected, in_float64(model, inputs))
    check_stats(stats(), family)


@by_family
def test_training(family: Family, front_end: Any) -> None:
    """Dropout draws eager's random numbers; loss, gradients and buffers are eager's."""
    model = family.build()
    plain = copy.deepcopy(model)
    inputs = family.inputs()
    compiled, stats = front_end(model)
    for step in range(2):
        model.zero_grad()
        plain.zero_grad()
        torch.manual_seed(step)
        expected = plain(**inputs)
        state = torch.get_rng_state()
        torch.manual_seed(step)
        got = compiled(**inputs)
        assert torch.equal(torch.get_rng_state(), state), "another number of random draws"
        assert_same_structure(got, expected)
        loss, expected_loss = family.loss(got), family.loss(expected)
        assert_as_accurate(loss, expected_loss, expected_loss.double)
        loss.backward()
        expected_loss.backward()
        expected_gradients = gradients(plain)
        for name, gradient in gradients(model).items():
            assert (gradient is None) == (expected_gradients[name] is None), name
            if gradient is not None:
                torch.testing.assert_close(
                    gradient, expected_gradients[name], rtol=1e-5, atol=1e-6, msg=name
                )
        for (name, a), (_, b) in zip(model.named_buffers(), plain.named_buffers(), strict=True):
            assert torch.equal(a, b), f"buffer {name}"
    check_stats(stats(), family)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "t5", "whisper"])
def test_cache_of_keys_and_values(name: str, jit_front_end: Any) -> None:
    """The cache that one call returns is taken by the next, as eager's."""
    family = next(f for f in FAMILIES if f.name == name)
    model = family.build().eval()
    inputs = {k: v for k, v in family.inputs().items() if k != "labels"}
    compiled, stats = jit_front_end(model)
    results = []
    for call in (model, compiled):
        with torch.no_grad():
            kwargs = dict(inputs)
            if model.config.is_encoder_decoder:
                kwargs["decoder_input_ids"] = torch.tensor([[1, 5, 6], [1, 7, 8]])
            first = call(**kwargs, use_cache=True)
            step = torch.tensor([[9], [10]])
            key = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
            kwargs[key] = step
            if key == "input_ids":
                mask = kwargs["attention_mask"]
                kwargs["attention_mask"] = torch.cat([mask, torch.ones_like(step)], dim=1)
            second = call(**kwargs, past_key_values=first.past_key_values, use_cache=True)
        results.append((first.logits, second.logits, second.past_key_values))
    (first, second, cache), (got_first, got_second, got_cache) = results
    # transformers masks otherwise where a compiler captures it, so the bits differ.
    torch.testing.assert_close(got_first, first)
    torch.testing.assert_close(got_second, second)
    assert type(got_cache) is type(cache)
    assert got_cache.get_seq_length() == cache.get_seq_length()
    assert stats().splits == {}


def test_generation(jit_front_end: Any) -> None:
    """`generate` of a jitted model gives eager's tokens."""
    family = next(f for f in FAMILIES if f.name == "llama")
    model = family.build().eval()
    compiled, _ = jit_front_end(model)
    prompt = family.inputs()["input_ids"][:, :4]
    arguments = {"max_new_tokens": 4, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    assert torch.equal(compiled.generate(prompt, **arguments), model.generate(prompt, **arguments))


def test_dropout_is_random_and_has_its_rate(jit_front_end: Any) -> None:
    family = next(f for f in FAMILIES if f.name == "bert")
    model = family.build()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.25
    compiled, _ = jit_front_end(model.embeddings)
    ids = family.inputs()["input_ids"]
    zeros = 0
    outputs = [compiled(input_ids=ids) for _ in range(40)]
    assert not torch.equal(outputs[0], outputs[1])
    zeros = sum((o == 0).float().mean().item() for o in outputs) / len(outputs)
    assert abs(zeros - 0.25) < 0.02
