"""A linear layer that stores only its non-zero weights, row by row (CSR), for inference on a processor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.errors import UsageError

DTYPES = (torch.float32, torch.float64)
"""What torch multiplies in CSR on a processor."""
PARTS = ("crow_indices", "col_indices", "values")


class CSRLinear(nn.Module):
    """y = x·Wᵀ + b with W [out, in] in CSR, computed as (W·xᵀ)ᵀ: the other way round torch is five to twelve times slower.

    x: [..., in], float32 or float64 as W. Nothing here is trained: W is three buffers, `crow_indices` [out + 1] and `col_indices`
    [non-zeros], int32, and `values` [non-zeros]; b is the buffer `bias` or None. A plain state_dict stores and loads them; loading takes
    over the number of non-zeros. Raises UsageError for another dtype.
    """

    _parsinet_serves = "it is stored as CSR, for inference alone. parsinet.export.to_dense(model) makes it an nn.Linear again"
    """Why a network with such a layer is not traced, and what to do."""
    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise UsageError(f"CSRLinear: weights must be float32 or float64, got {dtype}.")
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("crow_indices", torch.zeros(out_features + 1, dtype=torch.int32))
        self.register_buffer("col_indices", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(0, dtype=dtype))
        self.register_buffer("bias", torch.zeros(out_features, dtype=dtype) if bias else None)
        self._made: tuple[tuple[int, ...], Tensor] | None = None

    @classmethod
    def from_linear(cls, layer: nn.Linear) -> CSRLinear:
        """The same function as a dense layer, in evaluation mode."""
        weight = layer.weight.detach()
        result = cls(layer.in_features, layer.out_features, layer.bias is not None, weight.dtype)
        rows, columns = weight.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=layer.out_features)
        result.crow_indices = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        result.col_indices, result.values = columns.int(), weight[rows, columns].clone()
        result.bias = None if layer.bias is None else layer.bias.detach().clone()
        return result.train(layer.training)

    def to_linear(self) -> nn.Linear:
        """The same function as an `nn.Linear`, whose weights train again."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device=self.values.device, dtype=self.values.dtype)
        with torch.no_grad():
            layer.weight.copy_(self.matrix().to_dense())
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer.train(self.training)

    def matrix(self) -> Tensor:
        """W as a sparse tensor that shares the buffers' memory; made once for given buffers."""
        key = tuple(getattr(self, name).data_ptr() for name in PARTS)
        if self._made is None or self._made[0] != key or self._made[1].dtype != self.values.dtype:
            with warnings.catch_warnings(), torch.inference_mode(False):
                warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
                size = (self.out_features, self.in_features)
                made = torch.sparse_csr_tensor(self.crow_indices, self.col_indices, self.values, size, check_invariants=False)
            self._made = key, made
        return self._made[1]

    def forward(self, x: Tensor) -> Tensor:
        """y [..., out] of x [..., in]."""
        weight, rows = self.matrix(), x.reshape(-1, self.in_features)
        if len(rows) == 1:
            y = torch.mv(weight, rows[0])
            return (y if self.bias is None else y.add_(self.bias)).view(*x.shape[:-1], self.out_features)
        y = weight @ rows.T if self.bias is None else torch.addmm(self.bias.unsqueeze(1).expand(-1, len(rows)), weight, rows.T)
        return y.T.contiguous().view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, non-zeros={len(self.values)}, bias={self.bias is not None}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles make their own sparse tensor."""
        return {**self.__dict__, "_made": None}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("col_indices", "values"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.dim() == 1:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
