"""Model families, built small with random weights, and inputs for them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

BATCH, LENGTH, VOCABULARY = 2, 12, 120


NONE: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Family:
    """How to build a model, and what to call it with.

    Attributes:
        build: the model, in training mode, float32.
        inputs: keyword arguments of a call; floating tensors are float32.
        loss: a scalar for the backward pass from the model's output.
        fallbacks: torch functions without a row that the model may use; PyTorch runs them.
        data_dependent: its Python code asks for values of tensors, so there are several graphs,
            and sizes that change with the data.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    inputs: Callable[[], dict[str, Any]]
    loss: Callable[[Any], torch.Tensor]
    fallbacks: frozenset[str] = NONE
    data_dependent: bool = False

    def __str__(self) -> str:
        return self.name


def tokens(length: int = LENGTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (BATCH, length), generator=generator)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def _padded_text() -> dict[str, Any]:
    mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    mask[1, LENGTH // 2 :] = 0
    return {"input_ids": tokens(), "attention_mask": mask}


def _language_model_inputs() -> dict[str, Any]:
    return {**_padded_text(), "labels": tokens()}


def _loss_of(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output.float().square().mean()
    if getattr(output, "loss", None) is not None:
        return output.loss
    return output.last_hidden_state.float().square().mean()


def _build(model_class: Any, config_class: Any, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return model_class(config_class(**settings)).train()


_TOKEN_IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_dropout": 0.1,
    **_TOKEN_IDS,
}


def _decoder(name: str, prefix: str, fallbacks: frozenset[str] = NONE, **settings: Any) -> Family:
    build = functools.partial(
        _build,
        getattr(hf, f"{prefix}ForCausalLM"),
        getattr(hf, f"{prefix}Config"),
        **{**_DECODER, **settings},
    )
    return Family(name, build, _language_model_inputs, _loss_of, fallbacks)


def _vision(
    name: str, model_class: Any, config_class: Any, fallbacks: frozenset[str], **settings: Any
) -> Family:
    return Family(
        name,
        functools.partial(_build, model_class, config_class, **settings),
        lambda: {"pixel_values": noise(BATCH, 3, 32, 32)},
        _loss_of,
        fallbacks,
    )


NONE: frozenset[str] = frozenset()

TRANSFORMERS = [
    Family(
        "gpt2",
        functools.partial(
            _build, hf.GPT2LMHeadModel, hf.GPT2Config,
            vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, **_TOKEN_IDS,
        ),
        _language_model_inputs,
        _loss_of,
    ),
    _decoder("llama", "Llama"),
    _decoder("mistral", "Mistral", sliding_window=4),
    _decoder("qwen2", "Qwen2"),
    _decoder("qwen3", "Qwen3", head_dim=8),
    _decoder("gemma2", "Gemma2", head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    _decoder(
        "mixtral",
        "Mixtral",
        frozenset(
            {"torch.histc", "torch._grouped_mm", "torch.ops.transformers.grouped_mm_fallback"}
        ),
        num_local_experts=4,
        num_experts_per_tok=2,
        router_jitter_noise=0.0,
    ),
    Family(
        "bert",
        functools.partial(
            _build, hf.BertModel, hf.BertConfig,
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=64,
        ),
        _padded_text,
        _loss_of,
    ),
    Family(
        "t5",
        functools.partial(
            _build, hf.T5ForConditionalGeneration, hf.T5Config,
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            decoder_start_token_id=0,
        ),
        lambda: {**_padded_text(), "labels": tokens(5)},
        _loss_of,
    ),
    Family(
        "whisper",
        functools.partial(
            _build, hf.WhisperForConditionalGeneration, hf.WhisperConfig,
            vocab_size=VOCABULARY, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
            decoder_ffn_dim=48, max_source_positions=16, max_target_positions=16, dropout=0.1,
            decoder_start_token_id=1, **_TOKEN_IDS,
        ),
        lambda: {"input_features": noise(BATCH, 8, 32), "labels": tokens(6)},
        _loss_of,
    ),
    _vision(
        "vit", hf.ViTModel, hf.ViTConfig, NONE,
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=32, patch_size=8, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
    ),
    _vision(
        "resnet", hf.ResNetModel, hf.ResNetConfig, NONE,
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic",
    ),
    _vision(
        "convnext", hf.ConvNextModel, hf.ConvNextConfig, NONE,
        hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, drop_path_rate=0.2,
    ),
]  # fmt: skip


def _litgpt(config_name: str, **settings: Any) -> torch.nn.Module:
    from litgpt import GPT, Config

    torch.manual_seed(0)
    return GPT(Config.from_name(config_name, **settings)).train()


_LITGPT_SMALL: dict[str, Any] = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "padded_vocab_size": VOCABULARY,
    "block_size": 32,
}


def _litgpt_family(name: str, config_name: str, **settings: Any) -> Family:
    return Family(
        f"litgpt-{name}",
        functools.partial(_litgpt, config_name, **{**_LITGPT_SMALL, **settings}),
        lambda: {"idx": tokens()},
        _loss_of,
        fallbacks=frozenset({"torch.where"}) if "n_expert" in settings else NONE,
        data_dependent="n_expert" in settings,
    )


LITGPT = [
    _litgpt_family("pythia", "pythia-14m"),
    _litgpt_family("llama2", "Llama-2-7b-hf", n_query_groups=4),
    _litgpt_family("llama3", "Llama-3.2-1B", n_query_groups=2, head_size=8),
    _litgpt_family(
        "gemma2", "Gemma-2-2b", n_query_groups=2, head_size=8, attention_scores_scalar=8
    ),
    _litgpt_family("gemma3", "Gemma-3-1b-it", n_query_groups=2, head_size=8),
    _litgpt_family("phi2", "phi-2", n_query_groups=4),
    _litgpt_family("phi3", "Phi-3-mini-4k-instruct", n_query_groups=4),
    _litgpt_family("falcon", "falcon-7b", n_query_groups=1),
    _litgpt_family("qwen3", "Qwen3-0.6B", n_query_groups=2, head_size=8),
    _litgpt_family("olmo2", "OLMo-2-1124-7B", n_query_groups=4),
    _litgpt_family(
        "mixtral", "Mixtral-8x7B-v0.1", n_query_groups=2, n_expert=4, n_expert_per_token=2
    ),
]

FAMILIES = TRANSFORMERS + LITGPT
