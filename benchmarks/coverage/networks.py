"""Networks of other people's libraries as users build them: one small member of each family, and inputs for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from libraries import Build, Case, further
from torch import Tensor, nn

SIZED = ("vit", "deit", "swin", "beit", "eva", "xcit", "cait", "mixer", "hiera", "maxvit", "coat", "volo", "twins", "nest", "tnt", "gcvit")
"""How names of timm's models begin that are built for an image size."""

TIMM = {
    **dict.fromkeys(
        (
            "resnet18", "resnet14t", "seresnet18", "efficientnet_b0", "mobilenetv3_small_050", "convnext_atto", "regnety_002",
            "densenet121", "ghostnet_050", "hrnet_w18_small", "res2net50_26w_4s", "resnest14d", "pvt_v2_b0", "repvgg_a0",
            "repvit_m0_9", "edgenext_xx_small", "poolformerv2_s12", "mambaout_femto", "vit_tiny_patch16_224",
            "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "lcnet_035", "tf_mixnet_s", "vgg11_bn", "dla34", "nfnet_l0",
            "cspresnet50", "selecsls42", "rexnetr_100", "starnet_s1", "inception_next_atto", "efficientvit_b0", "tinynet_e",
            "skresnet18", "gernet_s", "fasternet_t0", "convmixer_768_32", "dpn48b", "ese_vovnet19b_dw",
        ),
        96,
    ),
    **dict.fromkeys(("fastvit_t8", "mobilevit_xxs"), 128),
    **dict.fromkeys(("swin_tiny_patch4_window7_224", "mixer_s32_224", "levit_128s", "hiera_tiny_224", "crossvit_tiny_240"), 224),
    "eva02_tiny_patch14_224": 98,
    "maxvit_pico_rw_256": 256,
}  # fmt: skip
"""Models of timm and the side of their images."""


def timm(name: str, side: int) -> Case:
    """A model of timm for seven classes."""
    from timm import create_model  # type: ignore[import-not-found]

    size = {"img_size": side} if name.startswith(SIZED) and side != 224 else {}
    return create_model(name, pretrained=False, num_classes=7, **size), torch.randn(2, 3, side, side)


def torchvision(name: str, shape: tuple[int, ...]) -> Case:
    """A model of torchvision: classification, segmentation or video."""
    from torchvision import models  # type: ignore[import-not-found]

    heads = {"weights_backbone": None} if "/" in name and name.startswith("segmentation") else {}
    place = models
    for part in name.split("/")[:-1]:
        place = getattr(place, part)
    return getattr(place, name.rpartition("/")[2])(weights=None, num_classes=7, **heads), torch.randn(2, *shape)


TORCHVISION = {
    **dict.fromkeys(
        (
            "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5", "regnet_x_400mf", "resnext50_32x4d",
            "segmentation/lraspp_mobilenet_v3_large", "segmentation/fcn_resnet50", "segmentation/deeplabv3_mobilenet_v3_large",
        ),
        (3, 96, 96),
    ),
    **dict.fromkeys(("alexnet", "vgg11_bn"), (3, 128, 128)),
    **dict.fromkeys(("video/r3d_18", "video/r2plus1d_18", "video/mc3_18"), (3, 4, 32, 32)),
}  # fmt: skip
"""Models of torchvision and the shape of an example."""


class Conditioned(nn.Module):
    """The sample of a diffusers model alone, out of its output class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        sample: Tensor = self.model(*args, **kwargs).sample
        return sample


def diffusers(name: str) -> Case:
    """A model of diffusers of two levels."""
    import diffusers as library  # type: ignore[import-not-found]

    steps, context = torch.tensor([3, 7]), torch.randn(2, 5, 12)
    unet = {"layers_per_block": 1, "norm_num_groups": 4, "block_out_channels": (16, 32)}
    coder = {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "norm_num_groups": 4, "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    }  # fmt: skip
    dit = {"num_attention_heads": 4, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "sample_size": 8, "patch_size": 2}
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    wide = {"cross_attention_dim": 12, "attention_head_dim": 4, "in_channels": 4}
    latent = torch.randn(2, 4, 8, 8)
    options: dict[str, tuple[dict[str, Any], Any]] = {
        "UNet2DModel": (
            {
                **unet,
                "in_channels": 3,
                "out_channels": 3,
                "attention_head_dim": 8,
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            },
            (torch.randn(2, 3, 16, 16), steps),
        ),
        "UNet2DConditionModel": (
            {**unet, **wide, "out_channels": 4, "down_block_types": down, "up_block_types": up},
            (torch.randn(2, 4, 16, 16), steps, context),
        ),
        "AutoencoderKL": (coder, (torch.randn(2, 3, 16, 16),)),
        "VQModel": ({**coder, "num_vq_embeddings": 16}, (torch.randn(2, 3, 16, 16),)),
        "DiTTransformer2DModel": (
            {**dit, "num_embeds_ada_norm": 10},
            {"hidden_states": latent, "timestep": steps, "class_labels": torch.tensor([1, 2])},
        ),
        "SD3Transformer2DModel": (
            {**dit, "joint_attention_dim": 12, "caption_projection_dim": 32, "pooled_projection_dim": 16, "out_channels": 4},
            {"hidden_states": latent, "encoder_hidden_states": context, "pooled_projections": torch.randn(2, 16), "timestep": steps},
        ),
    }
    settings, inputs = options[name]
    return Conditioned(getattr(library, name)(**settings)), inputs


DIFFUSERS = ("UNet2DModel", "UNet2DConditionModel", "AutoencoderKL", "VQModel", "DiTTransformer2DModel", "SD3Transformer2DModel")
"""Models of diffusers."""


class Graphs(nn.Module):
    """Two graph convolutions and a linear head."""

    def __init__(self, convolution: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first, self.second, self.head = convolution(5, 12), convolution(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        head: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(x, edges)), edges)))
        return head


def geometric(name: str) -> Case:
    """Two convolutions of PyTorch Geometric on a graph of six nodes."""
    from torch_geometric import nn as layers  # type: ignore[import-not-found]

    several = name in ("GATConv", "GATv2Conv", "TransformerConv")

    def convolution(before: int, after: int) -> nn.Module:
        if name == "GINConv":
            built: nn.Module = layers.GINConv(nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Linear(after, after)))
        elif name == "EdgeConv":
            built = layers.EdgeConv(nn.Linear(2 * before, after))
        else:
            built = getattr(layers, name)(before, after // 3 if several else after, **({"heads": 3} if several else {}))
        return built

    return Graphs(convolution), (torch.randn(6, 5), torch.randint(6, (2, 14)))


GEOMETRIC = (
    "GCNConv", "SAGEConv", "GraphConv", "GINConv", "GATConv", "GATv2Conv", "TransformerConv", "TAGConv", "LEConv", "ResGatedGraphConv",
    "EdgeConv",
)  # fmt: skip
"""Convolutions of PyTorch Geometric."""


def networks() -> Iterator[tuple[str, str, Build]]:
    """Library, name, and what builds the network with its inputs."""
    for name, side in TIMM.items():
        yield "timm", name, lambda name=name, side=side: timm(name, side)
    for name, shape in TORCHVISION.items():
        yield "torchvision", name, lambda name=name, shape=shape: torchvision(name, shape)
    for name in DIFFUSERS:
        yield "diffusers", name, lambda name=name: diffusers(name)
    for name in GEOMETRIC:
        yield "torch_geometric", name, lambda name=name: geometric(name)
    yield from further()
