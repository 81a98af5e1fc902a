"""A tiny vision transformer: patches of an image as tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError, suggest
from parsinet.models.checks import image_shape, positive
from parsinet.models.transformer import Block, check_heads, initialise

POOLS = ("class", "mean")


class TinyViT(nn.Module):
    """patch_embed (convolution, stride = kernel = `patch`), + positions, blocks.0 …, norm, then `head` on the pooled token.

    `pool`: "class" puts a learned `class_token` in front and reads it, "mean" averages the tokens. Positions are learned, one per token.
    Shapes: [batch, channels, height, width] → [batch, classes]; height and width must be those of `input_shape`.
    `hidden` is the width inside the feed-forward part, 2 · width unless given. Initialisation: linear weights, positions and class
    token normal with deviation 0.02, biases 0.
    Raises UsageError where `patch` does not divide the image, `heads` does not divide `width`, or the pool is unknown.
    Dosovitskiy et al. 2020, arXiv:2010.11929.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        pool: str = "class",
    ) -> None:
        super().__init__()
        who = "tiny-vit"
        channels, rows, columns = image_shape(who, input_shape)
        for name, value in (("classes", classes), ("patch", patch), ("width", width), ("depth", depth), ("heads", heads)):
            positive(who, name, value)
        if rows % patch or columns % patch:
            raise UsageError(f"{who}: patch must divide height and width, got patch {patch} for images of {rows}x{columns}.")
        if pool not in POOLS:
            raise UsageError(f"{who}: unknown pool {pool!r}.{suggest(str(pool), POOLS)}")
        check_heads(who, width, heads)
        inner = 2 * width if hidden is None else positive(who, "hidden", hidden)
        tokens = (rows // patch) * (columns // patch) + (pool == "class")
        self.pool = pool
        self.patch_embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads, inner, causal=False) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        initialise(self)
        nn.init.normal_(self.positions, std=0.02)
        if pool == "class":
            self.class_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        if self.pool == "class":
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits: Tensor = self.head(x[:, 0] if self.pool == "class" else x.mean(dim=1))
        return logits
