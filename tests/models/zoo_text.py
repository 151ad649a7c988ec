"""Text models of the zoo: decoders, encoders, encoder-decoders, experts, state spaces."""

from __future__ import annotations

from typing import Any

import torch

from zoo_row import (
    BATCH,
    VOCABULARY,
    InputMaker,
    Inputs,
    Row,
    noise,
    plain_text,
    text,
    text_pair,
    tokens,
)

LENGTHS = (12, 7)
TOKEN_IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_DECODER: dict[str, Any] = {**_SMALL, "num_key_value_heads": 2, **TOKEN_IDS}
_GPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_positions": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    **TOKEN_IDS,
}


def _decoder(
    name: str,
    prefix: str,
    base: dict[str, Any] = _DECODER,
    *,
    config: str = "",
    model: str = "",
    group: str = "text",
    cached: bool = True,
    settles: bool = False,
    inputs: InputMaker = text,
    **settings: Any,
) -> Row:
    return Row(
        name,
        model or f"{prefix}ForCausalLM",
        config or f"{prefix}Config",
        {**base, **settings},
        inputs,
        LENGTHS,
        group,
        cached=cached,
        settles=settles,
    )


_MLA: dict[str, Any] = {  # multi-head latent attention
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}

DECODERS = [
    _decoder("llama", "Llama"),
    _decoder("llama-eager-attention", "Llama", attn_implementation="eager"),
    _decoder(
        "llama3-rope", "Llama",
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        },
    ),
    _decoder("mistral", "Mistral", sliding_window=4),
    _decoder("ministral", "Ministral", sliding_window=4, head_dim=8),
    _decoder("qwen2", "Qwen2"),
    _decoder("qwen3", "Qwen3", head_dim=8),
    _decoder("gemma", "Gemma", head_dim=8),
    _decoder("gemma2", "Gemma2", head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    _decoder(
        "gemma3", "Gemma3", config="Gemma3TextConfig",
        head_dim=8, query_pre_attn_scalar=8, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    ),
    _decoder("phi", "Phi", partial_rotary_factor=0.5),
    _decoder("phi3", "Phi3"),
    _decoder("gpt2", "GPT2", _GPT, model="GPT2LMHeadModel"),
    _decoder("openai-gpt", "OpenAIGPT", _GPT, model="OpenAIGPTLMHeadModel", cached=False),
    _decoder("gpt-bigcode", "GPTBigCode", _GPT),
    _decoder("gptj", "GPTJ", _GPT, rotary_dim=4),
    _decoder("codegen", "CodeGen", _GPT, rotary_dim=4),
    _decoder("ctrl", "CTRL", _GPT, model="CTRLLMHeadModel", dff=48),
    _decoder(
        "gpt-neo", "GPTNeo", num_layers=2, num_heads=4, window_size=4,
        attention_types=[[["global", "local"], 1]],
    ),
    _decoder("gpt-neox", "GPTNeoX"),
    _decoder("gpt-neox-japanese", "GPTNeoXJapanese", intermediate_multiple_size=2),
    _decoder("opt", "OPT", ffn_dim=48, word_embed_proj_dim=32),
    _decoder("bloom", "Bloom", n_layer=2, n_head=4),
    _decoder("falcon", "Falcon"),
    _decoder("falcon-alibi", "Falcon", alibi=True, new_decoder_architecture=True, num_kv_heads=2),
    _decoder(
        "mpt", "Mpt", {"vocab_size": VOCABULARY, **TOKEN_IDS},
        d_model=32, n_heads=4, n_layers=2, max_seq_len=64, expansion_ratio=2,
    ),
    _decoder("stablelm", "StableLm"),
    _decoder("olmo", "Olmo"),
    _decoder("olmo2", "Olmo2"),
    _decoder("olmo3", "Olmo3", sliding_window=4),
    _decoder("cohere", "Cohere"),
    _decoder("cohere2", "Cohere2", sliding_window=4),
    _decoder("granite", "Granite"),
    _decoder("smollm3", "SmolLM3"),
    _decoder("starcoder2", "Starcoder2"),
    _decoder("glm", "Glm", head_dim=8),
    _decoder("glm4", "Glm4", head_dim=8),
    _decoder("nemotron", "Nemotron", head_dim=8),
    _decoder("persimmon", "Persimmon"),
    _decoder("helium", "Helium", head_dim=8),
    _decoder("exaone4", "Exaone4", sliding_window=4),
    _decoder("ernie4.5", "Ernie4_5", head_dim=8),
    _decoder("apertus", "Apertus"),
    _decoder("arcee", "Arcee"),
    _decoder("seed-oss", "SeedOss", head_dim=8),
    _decoder("hunyuan-dense", "HunYuanDenseV1", head_dim=8),
    _decoder("bitnet", "BitNet"),
    _decoder("diffllama", "DiffLlama"),
    _decoder("nanochat", "NanoChat"),
    _decoder("modernbert-decoder", "ModernBertDecoder", local_attention=4),
    _decoder("minicpm3", "MiniCPM3", **_MLA),
    _decoder("xglm", "XGLM", d_model=32, ffn_dim=48, num_layers=2, attention_heads=4),
    _decoder("biogpt", "BioGpt"),
    _decoder("xlnet", "XLNet", {"vocab_size": VOCABULARY, **TOKEN_IDS}, model="XLNetLMHeadModel",
             d_model=32, n_layer=2, n_head=4, d_inner=48, cached=False),
    _decoder("cwm", "Cwm", sliding_window=4,
             layer_types=["sliding_attention", "full_attention"]),
    _decoder("doge", "Doge"),
    _decoder("jais2", "Jais2", head_dim=8),
    _decoder("ministral3", "Ministral3", head_dim=8),
    _decoder("vaultgemma", "VaultGemma", head_dim=8, query_pre_attn_scalar=8, sliding_window=4),
    _decoder("youtu", "Youtu", **_MLA),
    _decoder(
        "gemma3n", "Gemma3n", config="Gemma3nTextConfig", head_dim=8, sliding_window=4,
        num_kv_shared_layers=0, vocab_size_per_layer_input=VOCABULARY, laurel_rank=4,
        hidden_size_per_layer_input=8, layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.5, 0.0], intermediate_size=[48, 48],
    ),
    _decoder("bert-generation", "BertGeneration", model="BertGenerationDecoder", is_decoder=True),
    _decoder("trocr", "TrOCR", d_model=32, decoder_layers=2, decoder_attention_heads=4,
             decoder_ffn_dim=48),
    _decoder("bart-decoder", "Bart", d_model=32, decoder_layers=2, decoder_attention_heads=4,
             decoder_ffn_dim=48),
]  # fmt: skip

_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}
_LOCAL_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_DEEPSEEK: dict[str, Any] = {
    **_MLA,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}

_ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}

EXPERTS = [
    _decoder("mixtral", "Mixtral", group="moe", **_LOCAL_EXPERTS),
    _decoder(
        "mixtral-eager-experts", "Mixtral", group="moe", experts_implementation="eager",
        **_LOCAL_EXPERTS,
    ),
    _decoder(
        "qwen2-moe", "Qwen2Moe", group="moe", moe_intermediate_size=16,
        shared_expert_intermediate_size=16, **_EXPERTS,
    ),
    _decoder(
        "qwen3-moe", "Qwen3Moe", group="moe", head_dim=8, moe_intermediate_size=16, **_EXPERTS
    ),
    _decoder("olmoe", "Olmoe", group="moe", **_EXPERTS),
    _decoder("gpt-oss", "GptOss", group="moe", head_dim=8, sliding_window=4, **_LOCAL_EXPERTS),
    _decoder("deepseek-v2", "DeepseekV2", group="moe", topk_method="group_limited_greedy",
             **_DEEPSEEK),
    _decoder("deepseek-v3", "DeepseekV3", group="moe", **_DEEPSEEK),
    _decoder("granitemoe", "GraniteMoe", group="moe", **_LOCAL_EXPERTS),
    _decoder("granitemoe-shared", "GraniteMoeShared", group="moe", shared_intermediate_size=16,
             **_LOCAL_EXPERTS),
    _decoder("phimoe", "Phimoe", group="moe", **_LOCAL_EXPERTS),
    _decoder("jetmoe", "JetMoe", group="moe", kv_channels=8, **_LOCAL_EXPERTS),
    _decoder(
        "ernie4.5-moe", "Ernie4_5_Moe", group="moe", moe_num_experts=4, moe_k=2,
        moe_intermediate_size=16, moe_layer_start_index=1,
    ),
    _decoder("glm4-moe", "Glm4Moe", group="moe", head_dim=8, n_routed_experts=4, n_group=2,
             topk_group=1, num_experts_per_tok=2, moe_intermediate_size=16),
    _decoder("minimax", "MiniMax", group="moe", head_dim=8, block_size=4, **_LOCAL_EXPERTS),
    _decoder(
        "llama4", "Llama4", config="Llama4TextConfig", group="moe", head_dim=8,
        intermediate_size_mlp=48, attention_chunk_size=8, num_local_experts=4,
        num_experts_per_tok=1,
    ),
    _decoder("lfm2-moe", "Lfm2Moe", group="moe", moe_intermediate_size=16, num_dense_layers=1,
             layer_types=["conv", "full_attention"], **_EXPERTS),
    _decoder("hunyuan-moe", "HunYuanMoEV1", group="moe", head_dim=8, num_experts=4, moe_topk=2),
    _decoder("flex-olmo", "FlexOlmo", group="moe", **_EXPERTS),
    _decoder("dots1", "Dots1", group="moe", n_shared_experts=1, **_ROUTED),
    _decoder("minimax-m2", "MiniMaxM2", group="moe", head_dim=8, rotary_dim=8, **_LOCAL_EXPERTS),
    _decoder("solar-open", "SolarOpen", group="moe", head_dim=8, **_ROUTED),
    _decoder("afmoe", "Afmoe", group="moe", head_dim=8, sliding_window=4,
             global_attn_every_n_layers=2, moe_intermediate_size=16, **_EXPERTS),
    _decoder("glm4-moe-lite", "Glm4MoeLite", group="moe", **_DEEPSEEK),
    _decoder("longcat-flash", "LongcatFlash", group="moe", num_layers=2, head_dim=8,
             ffn_hidden_size=48, expert_ffn_hidden_size=16, zero_expert_num=1, **_DEEPSEEK),
]  # fmt: skip

_MAMBA: dict[str, Any] = {**_SMALL, **TOKEN_IDS, "state_size": 8, "time_step_rank": 4}
_HYBRID: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}

STATE_SPACE = [
    _decoder("mamba", "Mamba", _MAMBA, group="state_space"),
    _decoder("mamba2", "Mamba2", {**_SMALL, **TOKEN_IDS}, group="state_space", state_size=8,
             num_heads=4, head_dim=16, n_groups=2, chunk_size=8),
    _decoder("falcon-mamba", "FalconMamba", _MAMBA, group="state_space"),
    _decoder("rwkv", "Rwkv", group="state_space", settles=True, attention_hidden_size=32,
             context_length=64, inputs=plain_text),
    _decoder(
        "jamba", "Jamba", group="state_space", mamba_d_state=8, mamba_dt_rank=4, num_experts=4,
        attn_layer_offset=1, attn_layer_period=2, expert_layer_offset=1, expert_layer_period=2,
        use_mamba_kernels=False,
    ),
    _decoder("recurrent-gemma", "RecurrentGemma", group="state_space", num_hidden_layers=3,
             lru_width=32, attention_window_size=8, head_dim=8),
    _decoder(
        "zamba", "Zamba", group="state_space", num_key_value_heads=4, mamba_d_state=8,
        n_mamba_heads=2, mamba_dt_rank=4, num_hidden_layers=5, attn_layer_period=2,
        attn_layer_offset=1, use_mamba_kernels=False, attention_head_dim=16,
        attention_hidden_size=64,
    ),
    _decoder(
        "zamba2", "Zamba2", group="state_space", num_key_value_heads=4, mamba_d_state=8,
        mamba_ngroups=1, n_mamba_heads=4, mamba_headdim=16, num_hidden_layers=3,
        layers_block_type=["mamba", "hybrid", "mamba"], num_mem_blocks=1, use_mem_rope=True,
        chunk_size=8, adapter_rank=4, use_mamba_kernels=False,
    ),
    _decoder("bamba", "Bamba", group="state_space", attn_layer_indices=[1], **_HYBRID),
    _decoder("falcon-h1", "FalconH1", group="state_space", head_dim=8, mamba_d_ssm=64, **_HYBRID),
    _decoder("granitemoe-hybrid", "GraniteMoeHybrid", group="state_space",
             layer_types=["mamba", "attention"], shared_intermediate_size=16, **_LOCAL_EXPERTS,
             **_HYBRID),
    _decoder(
        "qwen3-next", "Qwen3Next", group="state_space", head_dim=8, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, linear_num_value_heads=4, linear_num_key_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"], **_EXPERTS,
    ),
    _decoder(
        "qwen3.5", "Qwen3_5", config="Qwen3_5TextConfig", group="state_space", head_dim=8,
        linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
    ),
    _decoder(
        "olmo-hybrid", "OlmoHybrid", group="state_space", linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    _decoder("lfm2", "Lfm2", group="state_space", layer_types=["conv", "full_attention"]),
    _decoder("nemotron-h", "NemotronH", group="state_space", head_dim=8, ssm_state_size=8,
             mamba_num_heads=4, mamba_head_dim=16, n_groups=1, chunk_size=8,
             layers_block_type=["mamba", "attention"]),
    _decoder("xlstm", "xLSTM", group="state_space", hidden_size=64, num_heads=4, num_blocks=2,
             qk_dim_factor=1.0, chunk_size=8,
             inputs=plain_text),
]  # fmt: skip

_BERT: dict[str, Any] = {**_SMALL, **TOKEN_IDS}


def _encoder(
    name: str,
    prefix: str,
    head: str = "Model",
    inputs: InputMaker = text,
    base: dict[str, Any] = _BERT,
    settles: bool = False,
    **settings: Any,
) -> Row:
    settings = {**base, **settings}
    model, config = f"{prefix}{head}", f"{prefix}Config"
    return Row(name, model, config, settings, inputs, LENGTHS, "encoder", settles=settles)


def _boxes(seed: int, length: int) -> Inputs:
    """Words with their places on a page."""
    corner = tokens(seed + 7, BATCH, length, 2, vocabulary=500)
    return {**text(seed, length), "bbox": torch.cat([corner, corner + 9], dim=-1)}


def _characters(seed: int, length: int) -> Inputs:
    return text(seed, length + 12)


def _text_and_boxes_of_image(seed: int, length: int) -> Inputs:
    return {
        **text(seed, length),
        "visual_embeds": noise(seed + 7, BATCH, 3, 16),
        "visual_attention_mask": torch.ones(BATCH, 3),
        "visual_token_type_ids": torch.ones(BATCH, 3, dtype=torch.int64),
    }


ENCODERS = [
    _encoder("bert", "Bert"),
    _encoder("bert-masked-lm", "Bert", "ForMaskedLM"),
    _encoder("bert-eager-attention", "Bert", attn_implementation="eager"),
    _encoder("roberta", "Roberta", "ForSequenceClassification"),
    _encoder("roberta-prelayernorm", "RobertaPreLayerNorm"),
    _encoder("xlm-roberta", "XLMRoberta", "ForTokenClassification"),
    _encoder("xlm-roberta-xl", "XLMRobertaXL"),
    _encoder("camembert", "Camembert", "ForMaskedLM"),
    _encoder("distilbert", "DistilBert", dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    _encoder("albert", "Albert", embedding_size=16),
    _encoder("electra", "Electra", "ForPreTraining", embedding_size=16),
    _encoder("deberta", "Deberta", relative_attention=True, pos_att_type=["p2c", "c2p"]),
    _encoder(
        "deberta-v2", "DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True,
    ),
    _encoder("modernbert", "ModernBert", local_attention=4, cls_token_id=1, sep_token_id=2),
    _encoder("mpnet", "MPNet"),
    _encoder("ernie", "Ernie"),
    _encoder("esm", "Esm", mask_token_id=3, position_embedding_type="rotary"),
    _encoder("fnet", "FNet", inputs=plain_text),
    _encoder("funnel", "Funnel", base={"vocab_size": VOCABULARY}, block_sizes=[1, 1],
             num_decoder_layers=1, d_model=32, n_head=4, d_head=8, d_inner=48),
    _encoder("convbert", "ConvBert", embedding_size=32, conv_kernel_size=3),
    _encoder("mobilebert", "MobileBert", embedding_size=16, intra_bottleneck_size=16,
             true_hidden_size=16),
    _encoder("squeezebert", "SqueezeBert", embedding_size=32),
    _encoder("nystromformer", "Nystromformer", num_landmarks=4, segment_means_seq_len=4),
    _encoder("big-bird", "BigBird", attention_type="original_full"),
    _encoder("longformer", "Longformer", attention_window=4),
    _encoder("layoutlm", "LayoutLM", inputs=_boxes),
    _encoder("lilt", "Lilt", inputs=_boxes, hidden_size=48),
    _encoder("bros", "Bros", hidden_size=64, inputs=lambda s, n: {
        **text(s, n), "bbox": noise(s + 7, BATCH, n, 8).sigmoid()}),
    _encoder("roformer", "RoFormer", embedding_size=32),
    _encoder("rembert", "RemBert", input_embedding_size=16, output_embedding_size=16),
    _encoder("ibert", "IBert"),
    _encoder("megatron-bert", "MegatronBert"),
    _encoder("xlm", "XLM", emb_dim=32, n_layers=2, n_heads=4),
    _encoder("flaubert", "Flaubert", emb_dim=32, n_layers=2, n_heads=4),
    _encoder("canine", "Canine", inputs=_characters, num_hash_buckets=64,
             local_transformer_stride=4),
    _encoder("tapas", "Tapas"),
    _encoder("luke", "Luke", entity_vocab_size=32, entity_emb_size=16),
    _encoder("eurobert", "EuroBert", num_key_value_heads=2),
    _encoder("nomic-bert", "NomicBert"),
    _encoder("splinter", "Splinter"),
    _encoder("data2vec-text", "Data2VecText"),
    _encoder("visual-bert", "VisualBert", inputs=_text_and_boxes_of_image,
             visual_embedding_dim=16),
    _encoder("xmod", "Xmod", languages=["en"], default_language="en"),
]  # fmt: skip

_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    **TOKEN_IDS,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


def _seq2seq(
    name: str,
    prefix: str,
    base: dict[str, Any] = _SEQ2SEQ,
    *,
    model: str = "",
    cached: bool = True,
    **settings: Any,
) -> Row:
    return Row(
        name,
        model or f"{prefix}ForConditionalGeneration",
        f"{prefix}Config",
        {**base, **settings},
        text_pair,
        LENGTHS,
        "seq2seq",
        cached=cached,
    )


def _t5gemma_side(**more: Any) -> dict[str, Any]:
    return {**_DECODER, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4, **more}


SEQ2SEQ = [
    _seq2seq("t5", "T5", _T5),
    _seq2seq("t5-gated", "T5", _T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    _seq2seq("mt5", "MT5", _T5),
    _seq2seq("umt5", "UMT5", _T5),
    _seq2seq("longt5", "LongT5", _T5, local_radius=3),
    _seq2seq("switch-transformers", "SwitchTransformers", _T5, cached=False,
             num_decoder_layers=2, num_experts=4, num_sparse_encoder_layers=1,
             num_sparse_decoder_layers=1),
    _seq2seq("bart", "Bart"),
    _seq2seq("mbart", "MBart"),
    _seq2seq("pegasus", "Pegasus"),
    _seq2seq("pegasus-x", "PegasusX", block_size=4, num_global_tokens=2),
    _seq2seq("marian", "Marian", model="MarianMTModel"),
    _seq2seq("m2m100", "M2M100"),
    _seq2seq("nllb-moe", "NllbMoe", num_experts=4, encoder_sparse_step=2, decoder_sparse_step=2,
             expert_capacity=8),
    _seq2seq("led", "LED", attention_window=4, max_encoder_position_embeddings=64,
             max_decoder_position_embeddings=64),
    _seq2seq("blenderbot", "Blenderbot"),
    _seq2seq("blenderbot-small", "BlenderbotSmall"),
    _seq2seq("plbart", "PLBart"),
    _seq2seq("mvp", "Mvp"),
    _seq2seq("bigbird-pegasus", "BigBirdPegasus", attention_type="original_full"),
    _seq2seq("fsmt", "FSMT", src_vocab_size=VOCABULARY, tgt_vocab_size=VOCABULARY,
             langs=["en", "de"]),
    _seq2seq("prophetnet", "ProphetNet", {"vocab_size": VOCABULARY, **TOKEN_IDS},
             max_position_embeddings=64, hidden_size=32, num_encoder_layers=2,
             num_decoder_layers=2, num_encoder_attention_heads=4, num_decoder_attention_heads=4),
    _seq2seq(
        "t5gemma", "T5Gemma", {"vocab_size": VOCABULARY, **TOKEN_IDS},
        encoder=_t5gemma_side(), decoder=_t5gemma_side(is_decoder=True, use_cache=True),
    ),
]  # fmt: skip

TEXT = DECODERS + EXPERTS + STATE_SPACE + ENCODERS + SEQ2SEQ
