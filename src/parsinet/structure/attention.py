"""nn.MultiheadAttention whose heads need not add up to its width: what it becomes once heads or dimensions have left."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SlimMultiheadAttention(nn.MultiheadAttention):
    """softmax(q kᵀ/√d) v with sizes read from the weights; torch's own class insists on num_heads · head_dim = embed_dim.

    Parameters, their names, arguments and results are those of nn.MultiheadAttention. An existing module becomes one by
    `become_slim`; it is never built from scratch.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As nn.MultiheadAttention.forward."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._heads(query, key, value)
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Projected query, key and value as [batch, heads, positions, dimension]."""
        packed = self.in_proj_weight
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if packed is None else packed.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        parts = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
        for i, extra in ((1, self.bias_k), (2, self.bias_v)):
            if extra is not None:
                parts[i] = torch.cat([parts[i], extra.expand(len(parts[i]), -1, -1)], 1)
        heads = [part.view(*part.shape[:2], self.num_heads, -1).transpose(1, 2) for part in parts]
        return [heads[0], *(F.pad(part, (0, 0, 0, 1)) if self.add_zero_attn else part for part in heads[1:])]

    def _mask(self, attention: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as one that is added to the scores [batch, heads, positions, positions]."""
        masks = []
        if attention is not None:
            masks.append(attention if attention.dim() == 2 else attention.view(len(q), -1, *attention.shape[1:]))
        if padding is not None:
            masks.append(padding[:, None, None])
        total: Tensor | None = None
        for mask in masks:
            added = torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask
            total = added if total is None else total + added
        return None if total is None else F.pad(total, (0, k.shape[-2] - total.shape[-1]))


def become_slim(module: nn.MultiheadAttention) -> bool:
    """Turn a module whose widths are no longer the same into a slim one, in place; True if it must be one."""
    if not must_be_slim(module):
        return False
    module.__class__ = SlimMultiheadAttention
    return True


def must_be_slim(module: nn.MultiheadAttention) -> bool:
    """Whether heads, queries and results are no longer of one width, so that torch's own class cannot compute it."""
    outer, inner = module.out_proj.weight.shape
    query = (module.q_proj_weight if module.in_proj_weight is None else module.in_proj_weight).shape[1]
    return type(module) in (nn.MultiheadAttention, SlimMultiheadAttention) and not inner == outer == query


def hidden_reader(path: str, module: nn.Module | None, weight: str) -> str:
    """The layer that reads the heads of torch's attention at `path`, if `weight` is its; the attention reads for it and never calls it."""
    reader = f"{path}.out_proj" if path else "out_proj"
    return reader if type(module) is nn.MultiheadAttention and weight == f"{reader}.weight" else ""


def open_reader(model: nn.Module, reader: str) -> nn.MultiheadAttention | None:
    """Let the attention that reads for `reader` call it, so that hooks see its input.

    Returns the attention, None if `reader` is no such layer.
    """
    path, _, name = reader.rpartition(".")
    attention = model.get_submodule(path) if name == "out_proj" else None
    if type(attention) is not nn.MultiheadAttention:
        return None
    attention.__class__ = SlimMultiheadAttention
    return attention


def close_reader(attention: nn.MultiheadAttention) -> None:
    """Take `open_reader` back, unless heads have left since."""
    if not must_be_slim(attention):
        attention.__class__ = nn.MultiheadAttention


def open_attention(model: nn.Module) -> nn.Module:
    """The model, every nn.MultiheadAttention turned into a slim one: same function, but `out_proj` is called and hooks see its input."""
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = SlimMultiheadAttention
    return model
