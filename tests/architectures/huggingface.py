"""Families of Hugging Face transformers with tiny random weights: how to build each, what to feed it, what must be removable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

FEED_FORWARD = 40
"""Feed-forward width of every family that lets one choose it; no other axis has this size."""

SIZES = {"vocab_size": 64, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": FEED_FORWARD}
TEXT = {**SIZES, "max_position_embeddings": 42, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = {**TEXT, "num_key_value_heads": 2}
GPT2 = {"vocab_size": 64, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32, "n_inner": FEED_FORWARD}
T5 = {"vocab_size": 64, "d_model": 24, "d_kv": 6, "num_heads": 4, "d_ff": FEED_FORWARD, "num_layers": 2}
COUPLED = {
    "d_model": 24,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": FEED_FORWARD,
    "decoder_ffn_dim": FEED_FORWARD,
}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}
PICTURE = 62
"""The word in whose place a patch of a picture stands."""
IMAGE = {**{key: value for key, value in SIZES.items() if key != "vocab_size"}, "image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Family:
    """One model class. heads, feed_forward: how many groups of each kind are removable; width: whether the residual stream is.

    model, config: class names in transformers.
    """

    model: str
    config: str
    options: dict[str, Any]
    heads: int
    feed_forward: int
    width: bool
    inputs: str = "text"
    call: dict[str, Any] = field(default_factory=dict)


NO_CACHE = {"use_cache": False}
FAMILIES: dict[str, Family] = {
    "bert": Family("BertModel", "BertConfig", TEXT, 2, 2, width=False),
    "bert-classifier": Family("BertForSequenceClassification", "BertConfig", TEXT, 2, 2, width=True),
    "roberta": Family("RobertaForSequenceClassification", "RobertaConfig", TEXT, 2, 2, width=True),
    "distilbert": Family(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"vocab_size": 64, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": FEED_FORWARD},
        2,
        2,
        width=True,
    ),
    "electra": Family("ElectraForSequenceClassification", "ElectraConfig", {**TEXT, "embedding_size": 24}, 2, 2, width=True),
    "albert": Family("AlbertForSequenceClassification", "AlbertConfig", {**TEXT, "embedding_size": 16}, 1, 1, width=True),
    "deberta": Family("DebertaV2ForSequenceClassification", "DebertaV2Config", TEXT, 2, 2, width=True),
    "gpt2": Family("GPT2LMHeadModel", "GPT2Config", GPT2, 2, 2, width=True, call=NO_CACHE),
    "gpt-neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT, 2, 2, width=True, call=NO_CACHE),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", GROUPED, 2, 2, width=True),
    "mistral": Family("MistralForCausalLM", "MistralConfig", GROUPED, 2, 2, width=True, call=NO_CACHE),
    "mixtral": Family(
        "MixtralForCausalLM",
        "MixtralConfig",
        {**GROUPED, "num_local_experts": 3, "experts_implementation": "batched_mm"},
        2,
        2,
        width=True,
        call=NO_CACHE,
    ),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", GROUPED, 2, 2, width=True, call=NO_CACHE),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 6}, 2, 2, width=True, call=NO_CACHE),
    "gemma": Family("GemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 6}, 2, 2, width=True, call=NO_CACHE),
    "phi": Family("PhiForCausalLM", "PhiConfig", {**TEXT, "hidden_size": 32}, 2, 2, width=True, call=NO_CACHE),
    "opt": Family(
        "OPTForCausalLM",
        "OPTConfig",
        {**TEXT, "ffn_dim": FEED_FORWARD, "word_embed_proj_dim": 24},
        2,
        2,
        width=True,
        call=NO_CACHE,
    ),
    "bloom": Family("BloomForCausalLM", "BloomConfig", {"vocab_size": 64, "hidden_size": 10, "n_layer": 2, "n_head": 2}, 0, 2, width=True),
    "mamba": Family(
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": 64, "hidden_size": 20, "num_hidden_layers": 2, "state_size": 4},
        0,
        2,
        width=True,
        call=NO_CACHE,
    ),
    "t5": Family("T5ForConditionalGeneration", "T5Config", {**T5, **SPECIAL}, 3, 4, width=False, inputs="pair"),
    "t5-encoder": Family("T5EncoderModel", "T5Config", T5, 1, 2, width=False),
    "bart": Family(
        "BartForConditionalGeneration", "BartConfig", {**COUPLED, **SPECIAL, "vocab_size": 64}, 3, 2, width=False, inputs="pair"
    ),
    "whisper": Family(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {**COUPLED, **SPECIAL, "vocab_size": 64, "max_source_positions": 16, "num_mel_bins": 8},
        3,
        2,
        width=True,
        inputs="speech",
    ),
    "vit": Family("ViTForImageClassification", "ViTConfig", IMAGE, 2, 2, width=True, inputs="image"),
    "deit": Family("DeiTForImageClassification", "DeiTConfig", IMAGE, 2, 2, width=True, inputs="image"),
    "swin": Family(
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 32, "patch_size": 4, "embed_dim": 10, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        2,
        1,
        width=True,
        inputs="image",
    ),
    "convnext": Family(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [10, 16], "depths": [1, 1], "num_stages": 2},
        0,
        1,
        width=True,
        inputs="image",
    ),
    "clip-text": Family("CLIPTextModel", "CLIPTextConfig", TEXT, 2, 2, width=False),
    "llava": Family(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "vision_config": {"model_type": "clip_vision_model", **IMAGE, "hidden_size": 16, "image_size": 16},
            "text_config": {"model_type": "llama", **GROUPED},
            "image_token_index": PICTURE,
            "vision_feature_layer": -1,
        },
        4,
        4,
        width=True,  # of the vision tower; that of the text stays, since the network returns pictures' features, which are as wide
        inputs="picture and text",
        call=NO_CACHE,
    ),
}

SLOW = ("t5", "qwen3", "gemma", "bart")
"""Families whose laws take longest and whose parts others of the table share."""


def build(family: Family) -> nn.Module:
    """A model of the family in float64, seeded, with weights large enough for every unit to matter."""
    import transformers

    config = getattr(transformers, family.config)(**family.options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, family.model)(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return model


def example(family: Family) -> dict[str, Any]:
    """Keyword arguments the family accepts."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(3, 60, (2, 7), generator=generator)
    inputs: dict[str, dict[str, Tensor]] = {
        "text": {"input_ids": words},
        "pair": {"input_ids": words, "decoder_input_ids": words.flip(1)},
        "image": {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)},
        "picture and text": {
            "input_ids": torch.cat([torch.full((2, 4), PICTURE), words], dim=1),
            "pixel_values": torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64),
        },
        "speech": {
            "input_features": torch.randn(2, 8, 32, generator=generator, dtype=torch.float64),
            "decoder_input_ids": words,
        },
    }
    return {**inputs[family.inputs], **family.call}
