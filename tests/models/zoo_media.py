"""Vision, audio and multimodal models of the zoo."""

from __future__ import annotations

from typing import Any

import torch

from zoo_row import (
    BATCH,
    VOCABULARY,
    InputMaker,
    Inputs,
    Row,
    batch_of_clips,
    batch_of_images,
    images,
    noise,
    text,
    text_and_image,
    tokens,
    waves,
)
from zoo_text import LENGTHS, TOKEN_IDS

_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_IMAGE = batch_of_images(32)
_RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}


def _vision(
    name: str,
    prefix: str,
    head: str = "Model",
    base: dict[str, Any] | None = None,
    inputs: InputMaker = images,
    sizes: tuple[int, int] = (32, 64),
    settles: bool = False,
    **settings: Any,
) -> Row:
    """A model of images of every size, unless `inputs` says otherwise."""
    settings = {**(base or {}), **settings}
    model, config = f"{prefix}{head}", f"{prefix}Config"
    return Row(name, model, config, settings, inputs, sizes, "vision", settles=settles)


def _vit(name: str, prefix: str, head: str = "Model", **settings: Any) -> Row:
    """A transformer over the patches of images of one size."""
    return _vision(name, prefix, head, {**_VIT}, _IMAGE, (2, 3), **settings)


_STAGES: dict[str, Any] = {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}
_SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_PYRAMID: dict[str, Any] = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [16, 32],
    "num_attention_heads": [2, 4],
    "mlp_ratios": [2, 2],
}
_DETR: dict[str, Any] = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone_config": _RESNET,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 6,
}

VISION = [
    _vit("vit", "ViT"),
    _vit("vit-classifier", "ViT", "ForImageClassification"),
    _vit("deit", "DeiT"),
    _vit("beit", "Beit"),
    _vit("beit-relative", "Beit", use_relative_position_bias=True, use_mask_token=True),
    _vit("data2vec-vision", "Data2VecVision"),
    _vit("dinov2", "Dinov2"),
    _vit("dinov2-registers", "Dinov2WithRegisters", num_register_tokens=2),
    _vit("dinov3-vit", "DINOv3ViT"),
    _vit("ijepa", "IJepa"),
    _vit("vit-msn", "ViTMSN"),
    _vit("yolos", "Yolos", image_size=[32, 32], num_detection_tokens=4),
    _vit("dpt", "DPT", "ForDepthEstimation", settles=True, is_hybrid=False,
         backbone_out_indices=[0, 1, 2, 3],
         num_hidden_layers=4,
         neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8),
    _vit("hiera", "Hiera", embed_dim=16, image_size=[32, 32], patch_size=[3, 3],
         patch_stride=[2, 2], patch_padding=[1, 1], depths=[1, 1], num_heads=[2, 4],
         query_stride=[2, 2], masked_unit_size=[4, 4], masked_unit_attention=[True, False],
         num_query_pool=1),
    _vit("clip-vision", "CLIPVision"),
    _vit("siglip-vision", "SiglipVision"),
    _vit("pixio", "Pixio"),
    _vit("vitdet", "VitDet", num_channels=3),
    _vision("vivit", "Vivit", base=_VIT, inputs=batch_of_clips(4, 32), sizes=(2, 1),
            num_frames=4, tubelet_size=[2, 8, 8]),
    _vision("timesformer", "Timesformer", base=_VIT, inputs=batch_of_clips(4, 32), sizes=(2, 1),
            num_frames=4),
    _vision("videomae", "VideoMAE", base=_VIT, inputs=batch_of_clips(4, 32), sizes=(2, 1),
            num_frames=4, tubelet_size=2),
    _vision("swin", "Swin", base=_SWIN, inputs=_IMAGE, sizes=(2, 3)),
    _vision("swinv2", "Swinv2", base=_SWIN, inputs=_IMAGE, sizes=(2, 3)),
    _vision("swin2sr", "Swin2SR", "ForImageSuperResolution", _SWIN, patch_size=1,
            inputs=_IMAGE, sizes=(2, 3), upscale=2),
    _vision("donut-swin", "DonutSwin", base=_SWIN, inputs=_IMAGE, sizes=(2, 3)),
    _vision("focalnet", "FocalNet", image_size=32, patch_size=2, embed_dim=16, depths=[1, 1],
            hidden_sizes=[16, 32], focal_levels=[2, 2], focal_windows=[3, 3]),
    _vision("convnext", "ConvNext", base=_STAGES),
    _vision("convnextv2", "ConvNextV2", base=_STAGES),
    _vision("dinov3-convnext", "DINOv3ConvNext", hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1]),
    _vision("resnet", "ResNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2],
            layer_type="basic"),
    _vision("resnet-bottleneck", "ResNet", "ForImageClassification", embedding_size=8,
            hidden_sizes=[16, 32], depths=[1, 2]),
    _vision("regnet", "RegNet", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2],
            groups_width=4),
    _vision("bit", "Bit", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], num_groups=4),
    _vision("segformer", "Segformer", "ForSemanticSegmentation", _PYRAMID, settles=True,
            patch_sizes=[7, 3],
            strides=[4, 2], decoder_hidden_size=16),
    _vision("glpn", "GLPN", "ForDepthEstimation", num_encoder_blocks=4, depths=[1, 1, 1, 1],
            sr_ratios=[2, 2, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
            patch_sizes=[7, 3, 3, 3], strides=[4, 2, 2, 2], mlp_ratios=[2, 2, 2, 2],
            decoder_hidden_size=8),
    _vision("pvt", "Pvt", base=_PYRAMID, image_size=32, patch_sizes=[4, 2], strides=[4, 2],
            inputs=_IMAGE, sizes=(2, 3), sequence_reduction_ratios=[2, 1]),
    _vision("pvt-v2", "PvtV2", image_size=32, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 1, 2, 2], sr_ratios=[2, 2, 1, 1], mlp_ratios=[2, 2, 2, 2]),
    _vision("poolformer", "PoolFormer", depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16]),
    _vision("swiftformer", "SwiftFormer", depths=[1, 1, 1, 1], embed_dims=[8, 8, 16, 16]),
    _vision("mobilenet-v1", "MobileNetV1", depth_multiplier=0.1, image_size=32),
    _vision("mobilenet-v2", "MobileNetV2", depth_multiplier=0.1, image_size=32),
    _vision("mobilevit", "MobileViT", image_size=64, sizes=(64, 96), initializer_range=0.3,
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32]),
    _vision("mobilevitv2", "MobileViTV2", image_size=64, sizes=(64, 96), initializer_range=0.3,
            width_multiplier=0.25),
    _vision("efficientnet", "EfficientNet", image_size=32, width_coefficient=0.2,
            depth_coefficient=0.3, hidden_dim=256, initializer_range=0.3),
    _vision("levit", "Levit", settles=True, image_size=32, inputs=_IMAGE, sizes=(2, 3),
            hidden_sizes=[16, 32, 48], num_attention_heads=[2, 2, 2],
            depths=[1, 1, 1], key_dim=[8, 8, 8]),
    _vision("cvt", "Cvt", embed_dim=[8, 16, 32], num_heads=[1, 2, 4], depth=[1, 2, 3]),
    _vision("textnet", "TextNet", stem_out_channels=8, hidden_sizes=[8, 8, 8, 16, 16]),
    _vision("superpoint", "SuperPoint", "ForKeypointDetection",
            encoder_hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, descriptor_decoder_dim=8),
    _vision("upernet", "UperNet", "ForSemanticSegmentation", backbone_config={
                "model_type": "convnext", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
                "out_features": ["stage1", "stage2", "stage3", "stage4"]},
            hidden_size=8, use_auxiliary_head=False),
    _vision("detr", "Detr", "ForObjectDetection", _DETR),
    _vision("conditional-detr", "ConditionalDetr", "ForObjectDetection", _DETR),
    _vision("dab-detr", "DabDetr", "ForObjectDetection", {
                **{k: v for k, v in _DETR.items() if k != "d_model"}, "hidden_size": 32}),
    _vision("deformable-detr", "DeformableDetr", "ForObjectDetection", _DETR,
            num_feature_levels=3, decoder_layers=2),
    _vision("table-transformer", "TableTransformer", "ForObjectDetection", _DETR),
    _vision("rt-detr", "RTDetr", "ForObjectDetection", image_size=64, sizes=(64, 96),
            backbone_config={**_RESNET, "model_type": "rt_detr_resnet"}, d_model=32,
            encoder_hidden_dim=32, encoder_in_channels=[16, 24, 32], encoder_ffn_dim=48,
            decoder_ffn_dim=48, decoder_layers=1, num_queries=6, decoder_in_channels=[32, 32, 32],
            num_denoising=0, encoder_attention_heads=4, decoder_attention_heads=4),
    _vision("depth-anything", "DepthAnything", "ForDepthEstimation", inputs=_IMAGE, sizes=(2, 3),
            patch_size=8, backbone_config={
                "model_type": "dinov2", **_VIT, "out_features": ["stage1", "stage2"],
                "reshape_hidden_states": False},
            reassemble_hidden_size=32, reassemble_factors=[2, 1], neck_hidden_sizes=[8, 8],
            fusion_hidden_size=8, head_hidden_size=8),
]  # fmt: skip

_SPEECH: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (8, 8, 8),
    "conv_stride": (5, 4, 2),
    "conv_kernel": (10, 4, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_WRITER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 1,
    **TOKEN_IDS,
}


def _speech(
    name: str, prefix: str, head: str = "Model", settles: bool = False, **settings: Any
) -> Row:
    settings = {**_SPEECH, **settings}
    model, config = f"{prefix}{head}", f"{prefix}Config"
    return Row(name, model, config, settings, waves, (800, 640), "audio", settles=settles)


def _whisper_features(seed: int, batch: int) -> Inputs:
    features = noise(seed, batch, 8, 32)
    return {"input_features": features, "decoder_input_ids": tokens(seed + 9, batch, 6)}


def _frames_and_text(seed: int, frames: int) -> Inputs:
    features = noise(seed, BATCH, frames, 16)
    return {"input_features": features, "decoder_input_ids": tokens(seed + 9, BATCH, 6)}


AUDIO = [
    Row(
        "whisper", "WhisperForConditionalGeneration", "WhisperConfig",
        {**_WRITER, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 16},
        _whisper_features, (2, 3), "audio", cached=True,
    ),
    Row(
        "speech-to-text", "Speech2TextForConditionalGeneration", "Speech2TextConfig",
        {**_WRITER, "input_feat_per_channel": 16, "conv_channels": 16, "max_source_positions": 64,
         "max_target_positions": 32},
        _frames_and_text, (32, 20), "audio", cached=True,
    ),
    Row(
        "moonshine", "MoonshineForConditionalGeneration", "MoonshineConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
         "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
         "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4,
         "max_position_embeddings": 64, "decoder_start_token_id": 1, **TOKEN_IDS},
        lambda seed, samples: {
            **waves(seed, samples), "decoder_input_ids": tokens(seed + 9, BATCH, 6)},
        (2400, 2000), "audio", cached=True,
    ),
    _speech("wav2vec2", "Wav2Vec2"),
    _speech("wav2vec2-ctc", "Wav2Vec2", "ForCTC"),
    _speech("wav2vec2-conformer", "Wav2Vec2Conformer", settles=True,
            position_embeddings_type="rotary"),
    _speech("hubert", "Hubert"),
    _speech("wavlm", "WavLM"),
    _speech("sew", "SEW", squeeze_factor=2),
    _speech("sew-d", "SEWD", squeeze_factor=2, position_buckets=8),
    _speech("unispeech", "UniSpeech"),
    _speech("unispeech-sat", "UniSpeechSat"),
    _speech("data2vec-audio", "Data2VecAudio"),
    Row(
        "wav2vec2-bert", "Wav2Vec2BertModel", "Wav2Vec2BertConfig",
        {**_SPEECH, "feature_projection_input_dim": 16},
        lambda seed, frames: {"input_features": noise(seed, BATCH, frames, 16)}, (20, 14), "audio",
    ),
    Row(
        "audio-spectrogram", "ASTModel", "ASTConfig",
        {**_VIT, "num_mel_bins": 16, "max_length": 24, "frequency_stride": 8, "time_stride": 8},
        lambda seed, batch: {"input_values": noise(seed, batch, 24, 16)}, (2, 3), "audio",
    ),
    Row(
        "dac", "DacModel", "DacConfig",
        {"encoder_hidden_size": 8, "decoder_hidden_size": 16, "downsampling_ratios": [2, 4],
         "upsampling_ratios": [4, 2], "n_codebooks": 2, "codebook_size": 16, "codebook_dim": 4},
        lambda seed, samples: {"input_values": noise(seed, BATCH, 1, samples)}, (320, 256), "audio",
    ),
]  # fmt: skip

_TEXT_TOWER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "projection_dim": 16,
    **TOKEN_IDS,
}
_TOWERS: dict[str, Any] = {
    "text_config": _TEXT_TOWER,
    "vision_config": {**_VIT, "projection_dim": 16},
    "projection_dim": 16,
}
_IMAGE_TOKEN = VOCABULARY - 1
_TEXT_AND_IMAGE = text_and_image(32)


def _multimodal(
    name: str,
    model: str,
    config: str,
    settings: dict[str, Any],
    inputs: InputMaker = _TEXT_AND_IMAGE,
    cached: bool = False,
    settles: bool = False,
) -> Row:
    return Row(name, model, config, settings, inputs, LENGTHS, "multimodal", cached, settles)


def _image_in_text(patches: int) -> InputMaker:
    """A text that starts with one token for each patch of its image."""

    def make(seed: int, length: int) -> Inputs:
        words = tokens(seed, BATCH, length, vocabulary=VOCABULARY - 1)
        places = torch.full((BATCH, patches), _IMAGE_TOKEN)
        ids = torch.cat([places, words], dim=1)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": noise(seed + 100, BATCH, 3, 32, 32),
        }

    return make


def _boxed_text_and_image(seed: int, length: int) -> Inputs:
    corner = tokens(seed + 7, BATCH, length, 2, vocabulary=500)
    return {**_TEXT_AND_IMAGE(seed, length), "bbox": torch.cat([corner, corner + 9], dim=-1)}


def _text_and_regions(seed: int, length: int) -> Inputs:
    return {
        **text(seed, length),
        "visual_feats": noise(seed + 7, BATCH, 3, 16),
        "visual_pos": noise(seed + 8, BATCH, 3, 4).sigmoid(),
    }


_LLAMA: dict[str, Any] = {
    "model_type": "llama", **_TEXT_TOWER, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
_GEMMA: dict[str, Any] = {
    "model_type": "gemma", **_TEXT_TOWER, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64,
}  # fmt: skip

MULTIMODAL = [
    _multimodal("clip", "CLIPModel", "CLIPConfig", _TOWERS),
    _multimodal("siglip", "SiglipModel", "SiglipConfig", _TOWERS),
    _multimodal("chinese-clip", "ChineseCLIPModel", "ChineseCLIPConfig", _TOWERS),
    _multimodal("altclip", "AltCLIPModel", "AltCLIPConfig", {
        **_TOWERS, "text_config": {**_TEXT_TOWER, "project_dim": 16}}),
    _multimodal("clipseg", "CLIPSegModel", "CLIPSegConfig", _TOWERS),
    _multimodal("metaclip2", "MetaClip2Model", "MetaClip2Config", _TOWERS),
    _multimodal("groupvit", "GroupViTModel", "GroupViTConfig", {
        "text_config": _TEXT_TOWER, "projection_dim": 16, "projection_intermediate_dim": 24,
        "vision_config": {**_VIT, "depths": [1, 1], "num_group_tokens": [4, 0],
                          "num_output_groups": [4, 0]}}),
    _multimodal("owlvit", "OwlViTModel", "OwlViTConfig", _TOWERS),
    _multimodal("blip", "BlipModel", "BlipConfig", _TOWERS),
    _multimodal("blip-captioning", "BlipForConditionalGeneration", "BlipConfig", {
        **_TOWERS, "text_config": {**_TEXT_TOWER, "encoder_hidden_size": 32}}),
    _multimodal("vilt", "ViltModel", "ViltConfig", {**_TEXT_TOWER, **_VIT}),
    _multimodal("flava", "FlavaModel", "FlavaConfig", {
        "text_config": _TEXT_TOWER, "image_config": _VIT,
        "multimodal_config": {**_VIT}, "hidden_size": 32, "projection_dim": 16}),
    _multimodal("git", "GitForCausalLM", "GitConfig", {
        **_TEXT_TOWER, "vision_config": {**_VIT}, "max_position_embeddings": 64}, cached=True),
    _multimodal("layoutlmv3", "LayoutLMv3Model", "LayoutLMv3Config", {
        **_TEXT_TOWER, "input_size": 32, "patch_size": 8, "coordinate_size": 4, "shape_size": 8,
        "max_2d_position_embeddings": 600}, _boxed_text_and_image),
    _multimodal("lxmert", "LxmertModel", "LxmertConfig", {
        **{k: v for k, v in _TEXT_TOWER.items() if k != "num_hidden_layers"},
        "l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 16}, _text_and_regions),
    _multimodal("llava", "LlavaForConditionalGeneration", "LlavaConfig", {
        "text_config": _LLAMA, "vision_config": {"model_type": "clip_vision_model", **_VIT},
        "image_token_index": _IMAGE_TOKEN, "vision_feature_layer": -1}, _image_in_text(16),
        cached=True, settles=True),
    _multimodal("paligemma", "PaliGemmaForConditionalGeneration", "PaliGemmaConfig", {
        "text_config": _GEMMA, "vision_config": {"model_type": "siglip_vision_model", **_VIT},
        "image_token_index": _IMAGE_TOKEN, "projection_dim": 32}, _image_in_text(16), cached=True),
    _multimodal("llava-qwen2-siglip", "LlavaForConditionalGeneration", "LlavaConfig", {
        "text_config": {**_LLAMA, "model_type": "qwen2"},
        "vision_config": {"model_type": "siglip_vision_model", **_VIT},
        "image_token_index": _IMAGE_TOKEN, "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full"}, _image_in_text(16), cached=True, settles=True),
]  # fmt: skip

MEDIA = VISION + AUDIO + MULTIMODAL
