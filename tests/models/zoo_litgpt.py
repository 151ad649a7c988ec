"""Every kind of model in LitGPT's list, built small: with and without its cache."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import litgpt
import torch
from litgpt.config import configs

from zoo_row import BATCH, VOCABULARY, Call, Inputs, tokens

# Fields that tell two models of the same kind apart only by a number or a name.
_NUMBERS = ("name", "hf_config", "rope_base", "norm_eps", "rope_local_base_freq")
_PROMPT, _LAST = 8, 16


@dataclasses.dataclass(frozen=True)
class LitGPTRow:
    """A configuration of LitGPT, made small.

    Attributes:
        cached: with LitGPT's cache of keys and values, which it keeps in the module.
    """

    name: str
    config: litgpt.Config
    cached: bool
    group: str = "litgpt"

    def __str__(self) -> str:
        return self.name

    def build(self) -> torch.nn.Module:
        torch.manual_seed(0)
        model = litgpt.GPT(self.config).eval()
        if self.cached:
            model.set_kv_cache(batch_size=BATCH)
        return model

    def calls(self) -> list[Call]:
        def text(seed: int, length: int) -> Callable[[], Inputs]:
            return lambda: {"idx": tokens(seed, BATCH, length)}

        def piece(seed: int, start: int, end: int) -> Callable[[], Inputs]:
            return lambda: {
                "idx": tokens(seed, BATCH, end - start),
                "input_pos": torch.arange(start, end),
            }

        if not self.cached:
            return [
                Call("first", text(1, 12), True),
                Call("again", text(1, 12), False),
                Call("other values", text(2, 12), False, unlike="first"),
                Call("other size", text(1, 7), True),
            ]
        return [
            Call("prompt", piece(1, 0, _PROMPT), True),
            Call("token", piece(2, _PROMPT, _PROMPT + 1), True),
            Call("next token", piece(3, _PROMPT + 1, _PROMPT + 2), False, unlike="token"),
            Call("other prompt", piece(4, 0, _PROMPT), False, unlike="prompt"),
            Call("last token", piece(2, _LAST - 1, _LAST), False, unlike="token"),
        ]


def _small(name: str) -> litgpt.Config:
    """The configuration with two layers of 32 features; everything that selects code stays."""
    config = litgpt.Config.from_name(name)
    settings: dict[str, Any] = {
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 4,
        "n_query_groups": {1: 1, config.n_head: 4}.get(config.n_query_groups, 2),
        "head_size": 8,
        "intermediate_size": 48,
        "vocab_size": VOCABULARY,
        "padded_vocab_size": VOCABULARY,
        "block_size": 32,
    }
    if config.n_expert:
        settings |= {"n_expert": 4, "n_expert_per_token": 2}
    if config.attention_scores_scalar:
        settings["attention_scores_scalar"] = 8
    if config.sliding_window_size:
        settings["sliding_window_size"] = 4
        settings["sliding_window_indices"] = [1, 0]
    if config.rope_indices:
        settings["rope_indices"] = [1, 0]
    return litgpt.Config.from_name(name, **settings)


@functools.cache
def kinds() -> dict[str, litgpt.Config]:
    """The first of each set of configurations that differ in sizes and numbers only."""
    found: dict[str, tuple[str, litgpt.Config]] = {}
    for entry in configs:
        config = _small(entry["name"])
        fields = dataclasses.asdict(config)
        key = repr([(k, v) for k, v in sorted(fields.items()) if k not in _NUMBERS])
        found.setdefault(key, (entry["name"], config))
    return dict(found.values())


LITGPT = [
    LitGPTRow(f"litgpt-{name.lower()}{'-cache' if cached else ''}", config, cached)
    for cached in (False, True)
    for name, config in kinds().items()
]
