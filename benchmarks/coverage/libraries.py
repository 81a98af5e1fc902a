"""Networks for detection, segmentation, speech and text of further libraries: what builds a small one, and inputs for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Case = tuple[nn.Module, Any]
Build = Callable[[], Case]

YOLO = ("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo26n", "yolov8n-seg", "yolov8n-pose", "yolo11n-cls")
"""Networks of ultralytics."""


class Results(nn.Module):
    """What a network of ultralytics gives, without the features that it gives for its losses."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        _collect(self.model(images), found)
        return found


def _collect(result: Any, found: list[Tensor]) -> None:
    if isinstance(result, Mapping):
        result = [value for key, value in result.items() if key != "feats"]
    if isinstance(result, Tensor):
        found.append(result)
    else:
        for part in result:
            _collect(part, found)


def yolo(name: str) -> Case:
    """A network of ultralytics for four classes."""
    tasks = importlib.import_module("ultralytics.nn.tasks")
    kinds = {"seg": tasks.SegmentationModel, "pose": tasks.PoseModel, "cls": tasks.ClassificationModel}
    kind = kinds.get(name.partition("-")[2], tasks.DetectionModel)
    options = {"data_kpt_shape": (5, 3)} if kind is tasks.PoseModel else {}
    return Results(kind(f"{name}.yaml", ch=3, nc=4, verbose=False, **options)), torch.randn(2, 3, 64, 64)


SEGMENTERS = {
    **dict.fromkeys(("Unet", "UnetPlusPlus", "FPN", "MAnet", "PSPNet", "Linknet", "UPerNet", "PAN"), "resnet18"),
    "DeepLabV3Plus": "mobilenet_v2",
    "Segformer": "mit_b0",
}
"""Decoders of segmentation_models_pytorch and an encoder for each."""


def segmenter(name: str) -> Case:
    """A network of segmentation_models_pytorch for three classes."""
    build = getattr(importlib.import_module("segmentation_models_pytorch"), name)
    side = 128 if name == "PAN" else 64
    return build(encoder_name=SEGMENTERS[name], encoder_weights=None, classes=3), torch.randn(2, 3, side, side)


MEDICAL: Mapping[str, tuple[tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "UNet": ((3, 1, 2, (8, 16, 32), (2, 2)), {"num_res_units": 2}, (1, 32, 32, 32)),
    "AttentionUnet": ((2, 1, 2, (8, 16, 32), (2, 2)), {}, (1, 32, 32)),
    "DynUNet": ((2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]), {}, (1, 32, 32)),
    "SegResNet": ((), {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}, (1, 32, 32)),
    "VNet": ((), {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}, (1, 32, 32)),
    "DenseNet": ((3, 1, 2), {"init_features": 8, "growth_rate": 4, "block_config": (2, 2)}, (1, 16, 16, 16)),
    "SwinUNETR": ((), {"in_channels": 1, "out_channels": 2, "feature_size": 12, "spatial_dims": 2}, (1, 64, 64)),
    "UNETR": (
        (),
        {"in_channels": 1, "out_channels": 2, "img_size": (32, 32), "feature_size": 8, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
        | {"spatial_dims": 2},
        (1, 32, 32),
    ),
}
"""Networks of MONAI: arguments, options, the shape of an example."""


def medical(name: str) -> Case:
    """A network of MONAI."""
    arguments, options, shape = MEDICAL[name]
    return getattr(importlib.import_module("monai.networks.nets"), name)(*arguments, **options), torch.randn(2, *shape)


ViT = {"image_size": 32, "patch_size": 8, "num_classes": 5, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 48, "dim_head": 8}
SPACED = {"num_classes": 5, "s1_emb_dim": 16, "s2_emb_dim": 24, "s3_emb_dim": 32}
VISION: Mapping[str, tuple[str, dict[str, Any], int]] = {
    "ViT": ("vit", ViT, 32),
    "SimpleViT": ("simple_vit", ViT, 32),
    "CaiT": ("cait", {**ViT, "cls_depth": 1}, 32),
    "PiT": ("pit", {**ViT, "depth": (1, 1)}, 32),
    "LeViT": (
        "levit",
        {"image_size": 64, "num_classes": 5, "dim": (16, 24), "depth": 2, "heads": (2, 4), "mlp_mult": 2, "stages": 2}
        | {"dim_key": 8, "dim_value": 16},
        64,
    ),
    "CvT": ("cvt", {**SPACED, "s1_heads": 1, "s2_heads": 2, "s3_heads": 2, "s3_depth": 1}, 64),
    "RegionViT": ("regionvit", {"dim": (16, 24, 32, 32), "depth": (1, 1, 1, 1), "window_size": 2, "num_classes": 5}, 64),
    "NesT": (
        "nest",
        {"image_size": 32, "patch_size": 4, "dim": 16, "heads": 2, "num_hierarchies": 2, "block_repeats": (1, 1), "num_classes": 5},
        32,
    ),
    "MaxViT": ("max_vit", {"num_classes": 5, "dim": 16, "depth": (1, 1), "dim_conv_stem": 8, "dim_head": 8, "window_size": 4}, 64),
    "nViT": ("normalized_vit", ViT, 32),
}
"""Networks of vit_pytorch: their file, options, the side of images."""


def vision(name: str) -> Case:
    """A network of vit_pytorch, in the patterns of einops."""
    file, options, side = VISION[name]
    return getattr(importlib.import_module(f"vit_pytorch.{file}"), name)(**options), torch.randn(2, 3, side, side)


SPEECH: Mapping[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "Conformer": (
        {"input_dim": 16, "num_heads": 4, "ffn_dim": 32, "num_layers": 2, "depthwise_conv_kernel_size": 5},
        lambda: (torch.randn(2, 20, 16), torch.tensor([20, 17])),
    ),
    "DeepSpeech": ({"n_feature": 16, "n_hidden": 24, "n_class": 7}, lambda: torch.randn(2, 1, 10, 16)),
    "HDemucs": ({"sources": ["a", "b"], "audio_channels": 1, "channels": 8, "nfft": 256, "depth": 3}, lambda: torch.randn(1, 1, 2048)),
    "ConvTasNet": (
        {"num_sources": 2, "enc_kernel_size": 8, "enc_num_feats": 16, "msk_kernel_size": 3, "msk_num_feats": 8}
        | {"msk_num_hidden_feats": 16, "msk_num_layers": 2, "msk_num_stacks": 2},
        lambda: torch.randn(2, 1, 400),
    ),
}
"""Networks of torchaudio."""


def speech(name: str) -> Case:
    """A network of torchaudio."""
    options, inputs = SPEECH[name]
    return getattr(importlib.import_module("torchaudio.models"), name)(**options), inputs()


def clip(_: str) -> Case:
    """The two towers of open_clip."""
    CLIP = importlib.import_module("open_clip.model").CLIP
    images = {"image_size": 32, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8}
    texts = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2}
    return CLIP(embed_dim=32, vision_cfg=images, text_cfg=texts), (torch.randn(2, 3, 32, 32), torch.randint(1, 50, (2, 12)))


class Logits(nn.Module):
    """The logits of a transformers model alone, out of its output class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=ids).logits
        return logits


def adapted(name: str) -> Case:
    """A frozen network of transformers with adapters of peft."""
    transformers, peft = importlib.import_module("transformers"), importlib.import_module("peft")
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if name == "LoRA":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2))
        places = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
    else:
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))
        places = ["query", "value"]
    adapters = peft.LoraConfig(r=4, target_modules=places, use_dora=name == "DoRA")
    return Logits(peft.get_peft_model(model, adapters)), torch.randint(0, 50, (2, 12))


def text(name: str) -> Case:
    """A transformer of x_transformers."""
    library = importlib.import_module("x_transformers")
    kind = {"rotary decoder": library.Decoder, "relative encoder": library.Encoder}[name]
    options = {"rotary_pos_emb": True, "ff_glu": True} if kind is library.Decoder else {"use_rmsnorm": True, "rel_pos_bias": True}
    layers = kind(dim=32, depth=2, heads=4, attn_dim_head=8, **options)
    return library.TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers), torch.randint(0, 50, (2, 12))


FURTHER: Mapping[str, tuple[Callable[[str], Case], tuple[str, ...]]] = {
    "ultralytics": (yolo, YOLO),
    "segmentation_models_pytorch": (segmenter, tuple(SEGMENTERS)),
    "monai": (medical, tuple(MEDICAL)),
    "vit_pytorch": (vision, tuple(VISION)),
    "x_transformers": (text, ("rotary decoder", "relative encoder")),
    "torchaudio": (speech, tuple(SPEECH)),
    "open_clip_torch": (clip, ("CLIP",)),
    "peft": (adapted, ("LoRA", "DoRA")),
}


def further() -> Iterator[tuple[str, str, Build]]:
    """Library, name, and what builds the network with its inputs."""
    for library, (build, names) in FURTHER.items():
        for name in names:
            yield library, name, lambda build=build, name=name: build(name)
