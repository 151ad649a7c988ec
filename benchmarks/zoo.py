"""The models that are measured, built from their configs with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)  # fmt: skip

TOKENS = 128
VOCABULARY = 4096


def gpt2(layers: int = 4, width: int = 512) -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            bos_token_id=0, eos_token_id=0, n_layer=layers, n_embd=width, n_head=8,
            n_positions=512, vocab_size=VOCABULARY, use_cache=False,
        )
    )  # fmt: skip


def bert(layers: int = 4, width: int = 512) -> nn.Module:
    return BertForMaskedLM(
        BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=8,
            intermediate_size=4 * width, vocab_size=VOCABULARY,
        )
    )  # fmt: skip


def llama(layers: int = 4, width: int = 512, key_value_heads: int = 8) -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=8,
            num_key_value_heads=key_value_heads, intermediate_size=width * 43 // 16,
            vocab_size=VOCABULARY, use_cache=False,
        )
    )  # fmt: skip


def pythia() -> nn.Module:
    """Of the sizes of pythia-14m."""
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            hidden_size=128, num_hidden_layers=6, num_attention_heads=4, intermediate_size=512,
            vocab_size=50304, use_cache=False,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {
    "GPT-2, 4 layers of 512": gpt2,
    "BERT, 4 layers of 512": bert,
    "Llama, 4 layers of 512": llama,
    "pythia-14m": pythia,
}


def tokens(model: nn.Module, count: int = TOKENS, batch: int = 1) -> torch.Tensor:
    return torch.randint(0, model.config.vocab_size, (batch, count))


def next_token_loss(model: Callable[..., object], ids: torch.Tensor) -> torch.Tensor:
    logits = model(ids).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def training_step(model: nn.Module, ids: torch.Tensor, **options: object) -> Callable[[], object]:
    """A whole step: forward, backward, AdamW with these options."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **options)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = next_token_loss(model, ids)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
