"""The pre-norm transformer block that the vision and the language model share."""

from torch import Tensor, nn
from torch.nn import functional as F

from parsinet.errors import UsageError


class Attention(nn.Module):
    """softmax(scale · Q Kᵀ) V per head, then `proj`; Q, K, V come from separate linear layers q, k, v.

    Shapes: [batch, tokens, width] → the same. `num_heads` and `head_dim` are read in every forward pass and may be changed when heads, or
    entries of the query-key space, are removed; values may be narrowed on their own. `scale` is fixed at construction, 1/√head_dim, so
    that removing entries that are zero leaves the function as it was. Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, width: int, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.scale = self.head_dim**-0.5
        self.causal = causal
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        k = self.k(x).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        v = self.v(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """fc1 – GELU – fc2 on every token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))
        output: Tensor = self.fc2(hidden)
        return output


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)); shapes [batch, tokens, width] → the same."""

    def __init__(self, width: int, num_heads: int, hidden: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, num_heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        output: Tensor = x + self.mlp(self.norm2(x))
        return output


def check_heads(who: str, width: int, heads: int) -> None:
    """Raises UsageError where the heads do not share the width evenly."""
    if width % heads:
        raise UsageError(f"{who}: width must be a multiple of heads, got width {width} and {heads} heads.")


def initialise(model: nn.Module) -> None:
    """Linear and embedding weights normal with deviation 0.02, biases 0, as in GPT-2 and ViT; other layers keep PyTorch's default."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
