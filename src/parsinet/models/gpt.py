"""A small character-level language model: a causal transformer whose embedding is also its output layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError
from parsinet.models.checks import any_shape, positive
from parsinet.models.transformer import Block, check_heads, initialise


class CharGPT(nn.Module):
    """embed + positions, blocks.0 …, norm, `head` without bias, whose weight is the embedding's.

    Shapes: int64 characters [batch, tokens] → scores of the next character [batch, tokens, classes]; tokens ≤ `block`, the context length,
    which is the one entry of `input_shape`; `classes` is the size of the vocabulary. Position t sees positions ≤ t only.
    `hidden` is the width inside the feed-forward part, 4 · width unless given.
    Initialisation: weights and positions normal with deviation 0.02, biases 0.
    Raises UsageError for an input shape of other than one entry, heads that do not divide the width, a text longer than `block`.
    Radford et al. 2019 (GPT-2); tied embedding: Press, Wolf 2016, arXiv:1608.05859.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        who = "char-gpt"
        shape = any_shape(who, input_shape)
        if len(shape) != 1:
            raise UsageError(f"{who}: takes character sequences, input_shape (block,); got {shape}.")
        for name, value in (("classes", classes), ("width", width), ("depth", depth), ("heads", heads)):
            positive(who, name, value)
        check_heads(who, width, heads)
        inner = 4 * width if hidden is None else positive(who, "hidden", hidden)
        self.block = shape[0]
        self.embed = nn.Embedding(classes, width)
        self.positions = nn.Parameter(torch.empty(self.block, width))
        self.blocks = nn.ModuleList(Block(width, heads, inner, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)
        self.head.weight = self.embed.weight
        initialise(self)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, characters: Tensor) -> Tensor:
        if characters.shape[1] > self.block:
            raise UsageError(f"char-gpt: a text of {characters.shape[1]} characters is longer than the context of {self.block}.")
        x = self.embed(characters) + self.positions[: characters.shape[1]]
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x))
        return scores
