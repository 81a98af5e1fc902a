"""Transformers and attention as other libraries write them, small."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class FusedAttention(nn.Module):
    """GPT-2: one projection for query, key and value, split by `split`, causal mask in a buffer."""

    def __init__(self, width: int, heads: int, limit: int = 8) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("mask", torch.tril(torch.ones(limit, limit)).bool()[None, None])

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).split(self.heads * self.head_dim, dim=2)
        q, k, v = (part.view(b, t, self.heads, self.head_dim).transpose(1, 2) for part in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(self.head_dim)
        scores = scores.masked_fill(~self.mask[:, :, :t, :t], float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
        return self.proj(y.transpose(1, 2).contiguous().view(b, t, self.heads * self.head_dim))


class GPT(nn.Module):
    """Pre-norm decoder with tied embedding and head, blocks recomputed in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(13, 12), nn.Parameter(torch.randn(1, 8, 12))
        self.norm1, self.attn = nn.LayerNorm(12), FusedAttention(12, 3)
        self.norm2, self.fc, self.proj = nn.LayerNorm(12), nn.Linear(12, 20), nn.Linear(20, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 13, bias=False)
        self.head.weight = self.token.weight

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.proj(F.gelu(self.fc(self.norm2(x)), approximate="tanh"))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.position[:, : tokens.shape[1]]
        x = x + checkpoint(lambda h: self.attn(self.norm1(h)), x, use_reentrant=False)
        x = x + checkpoint(self.feed_forward, x, use_reentrant=False)
        return self.head(self.norm(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, halves paired."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class GroupedQuery(nn.Module):
    """Llama: RMSNorm, rotary positions, fewer key heads repeated by expand and reshape, SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = 4, 2, 4
        self.embed = nn.Embedding(11, 16)
        self.norm1, self.norm2 = nn.RMSNorm(16), nn.RMSNorm(16)
        self.q_proj, self.o_proj = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.k_proj, self.v_proj = nn.Linear(16, 8, bias=False), nn.Linear(16, 8, bias=False)
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 5)
        angle = torch.arange(6)[:, None] * 0.5 ** torch.arange(2)[None]
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin(), persistent=False)

    def repeat(self, x: Tensor) -> Tensor:
        b, h, t, d = x.shape
        times = self.num_heads // self.num_kv_heads
        return x[:, :, None].expand(b, h, times, t, d).reshape(b, h * times, t, d)

    def attend(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, -1, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, -1, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, -1, self.head_dim).transpose(1, 2)
        q, k = rotate(q, self.cos, self.sin), rotate(k, self.cos, self.sin)
        y = F.scaled_dot_product_attention(q, self.repeat(k), self.repeat(v), is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.attend(self.norm1(x))
        h = self.norm2(x)
        return self.head((x + self.down(F.silu(self.gate(h)) * self.up(h)))[:, -1])


class NativeGroupedQuery(nn.Module):
    """Grouped queries by `enable_gqa`, a home-made RMS norm, an attention mask as an input."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = 3
        self.lift, self.weight = nn.Linear(5, 8), nn.Parameter(torch.ones(8))
        self.q, self.k, self.v = nn.Linear(8, 24), nn.Linear(8, 12), nn.Linear(8, 12)
        self.out, self.fc = nn.Linear(24, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.lift(x)
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight
        q, k, v = (f(h).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self.fc((x + self.out(y.transpose(1, 2).flatten(2))).mean(1))


class TorchEncoder(nn.Module):
    """nn.TransformerEncoderLayer pre-norm and post-norm (which takes torch's fused path in evaluation), with a learned class token."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(5, 12)
        self.cls = nn.Parameter(torch.randn(1, 1, 12))
        self.pre = nn.TransformerEncoderLayer(12, 3, 18, batch_first=True, norm_first=True, dropout=0.1)
        self.post = nn.TransformerEncoderLayer(12, 2, 14, activation="gelu", batch_first=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(x), -1, -1), self.lift(x)], 1)
        return self.fc(self.post(self.pre(x))[:, 0])


class TorchSeq2Seq(nn.Module):
    """nn.TransformerDecoderLayer over the encoder's memory, causal mask, positions first; keyword inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(4, 8), nn.Linear(3, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 10)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 12)
        self.fc = nn.Linear(8, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(len(target), dtype=target.dtype)
        return self.fc(self.decoder(self.target(target), self.encoder(self.source(source)), tgt_mask=causal))


class CrossAttention(nn.Module):
    """nn.MultiheadAttention with different widths of key and value, and as self-attention with its weights returned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.cross = nn.MultiheadAttention(12, 4, kdim=7, vdim=6, batch_first=True)
        self.own = nn.MultiheadAttention(12, 3, batch_first=True, add_bias_kv=True)
        self.keys, self.values = nn.Linear(5, 7), nn.Linear(5, 6)
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.embed(x))
        h = h + self.cross(h, F.relu(self.keys(x)), F.relu(self.values(x)), need_weights=False)[0]
        y, weights = self.own(h, h, h)
        return self.fc(h + y), weights


class EinsumAttention(nn.Module):
    """Everything with einsum over raw parameters that have an axis per head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(6, 3, 4) / 3) for _ in range(3))
        self.o = nn.Parameter(torch.randn(3, 4, 6) / 3)
        self.lift, self.fc = nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.lift(x))
        q, k, v = (torch.einsum("btc,chd->bhtd", x, w) for w in (self.q, self.k, self.v))
        weights = (torch.einsum("bhtd,bhsd->bhts", q, k) * 0.5).softmax(-1)
        return self.fc(x + torch.einsum("bhts,bhsd,hdc->btc", weights, v, self.o))


class WindowAttention(nn.Module):
    """Swin: windows by view and permute, qkv reshaped to (3, heads, dim), a table of relative positions per head."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = 2, 0.5
        self.embed, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(9, 2))
        self.register_buffer("index", torch.arange(16).remainder(9))
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        b, h, w, c = x.shape
        y = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        n = y.shape[0]
        q, k, v = self.qkv(y).reshape(n, 4, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].view(4, 4, -1).permute(2, 0, 1)
        y = ((q * self.scale) @ k.transpose(-2, -1) + bias[None]).softmax(-1) @ v
        y = self.proj(y.transpose(1, 2).reshape(n, 4, -1))
        y = y.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.fc((x + y).mean((1, 2)))
