"""Module attributes that repeat a number of units: names by what they count, in one table, and the units they are found to count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from parsinet.structure.attributes import RULES, kind_of
from parsinet.structure.axes import NONE, Axis, Rows, labelled
from parsinet.structure.tracing import Tracing

QUERY_HEADS = ("num_heads", "n_head", "n_heads", "heads", "nhead", "num_attention_heads")
KEY_HEADS = ("num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads", "num_key_value_heads")
HEADS = (*QUERY_HEADS, *KEY_HEADS)
HEAD_SIZES = ("head_dim", "dim_head", "d_head", "head_size", "attention_head_size", "d_k", "d_kv", "key_value_proj_dim", "dim_per_head")
PIECES = ("split_size", "time_step_rank", "ssm_state_size", *HEAD_SIZES)
INNER = ("all_head_size", "inner_dim", "intermediate_size", "ffn_dim", "d_ff", "hidden_dim", "d_inner")
"""Widths within a module: one of its layers produces the units, another reads them."""
OUTER = ("hidden_size", "embed_dim", "d_model", "dim")
"""Widths between modules: what a module's layers read from outside. (Not `model_dim`: T5 scales its output by it.)"""

WEIGHTS: tuple[tuple[str, int, int | None], ...] = (
    ("torch.nn.modules.linear.Linear", 0, 1),
    ("torch.nn.modules.conv.Conv1d", 0, 1),
    ("torch.nn.modules.conv.Conv2d", 0, 1),
    ("torch.nn.modules.sparse.Embedding", 1, None),
    ("transformers.pytorch_utils.Conv1D", 1, 0),
)
"""Layer kind, and which dimensions of its weight are outputs and inputs."""


@dataclass
class _Widths:
    """Axes of a module's own layers: what they produce and what they read, as resolved labels."""

    produced: list[Rows] = field(default_factory=list)
    read: list[Rows] = field(default_factory=list)

    def inner(self) -> Iterator[Rows]:
        """Read axes of which every unit is produced within the module, and produced axes all read within it."""
        made, used = _union(self.produced), _union(self.read)
        yield from (rows for rows in self.read if _roots(rows) <= made)
        yield from (rows for rows in self.produced if _roots(rows) <= used)

    def outer(self) -> list[Rows]:
        """Read axes produced elsewhere; without any, produced axes read elsewhere."""
        made, used = _union(self.produced), _union(self.read)
        outside = [rows for rows in self.read if not _roots(rows) & made]
        return outside or [rows for rows in self.produced if not _roots(rows) & used]


def follow(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> None:
    """Count, for every attribute of the table that no operator was seen to use, the units it repeats the number of.

    An attribute follows only where its name says what it counts and exactly one class of units in that place has its value.
    """
    known = {(count.module, count.attribute) for count in tracing.counts}
    dims, heads = _role(tracing, "qk_dim", "v_dim"), _role(tracing, "heads")
    for path, module in tracing.model.named_modules():
        if any(isinstance(module, kind) for kind, _ in RULES):
            continue
        names = [name for name in (*HEADS, *HEAD_SIZES, *INNER, *OUTER) if type(module.__dict__.get(name)) is int]
        if not names:
            continue
        widths = _widths(tracing, axes, path, module)
        for name in names:
            found = [rows for rows in _candidates(name, widths, dims, heads) if rows.shape[1] == module.__dict__[name]]
            if (path, name) not in known and len({frozenset(_roots(rows)) for rows in found}) == 1:
                tracing.count_of(path, name, labelled(found[0]))


def _candidates(name: str, widths: _Widths, dims: set[int], heads: set[int]) -> Iterator[Rows]:
    """The axes an attribute of this name may count."""
    if name in OUTER:
        yield from widths.outer()
    for rows in widths.inner() if name not in OUTER else ():
        own = np.array([bool(_roots(row) & dims) for row in rows], dtype=bool)
        if name in INNER:
            yield rows
        elif name in HEAD_SIZES and own.any():
            yield np.unique(rows[own], axis=1)
        elif name in HEADS and not own.all() and _roots(rows[~own]) & heads:
            yield np.unique(rows[~own], axis=1)


def _widths(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]], path: str, module: nn.Module) -> _Widths:
    widths = _Widths()
    for name, child in module.named_children():
        weight = axes.get(".".join(filter(None, (path, name, "weight"))))
        dims = next(((out, into) for kind, out, into in WEIGHTS if kind_of(child) == kind), None)
        if weight is None or dims is None:
            continue
        for d, place in zip(dims, (widths.produced, widths.read), strict=True):
            rows = tracing.labels.resolve(weight[d]) if d is not None else np.empty((0, 0), np.int64)
            if len(rows):
                place.append(rows)
    return widths


def _role(tracing: Tracing, *roles: str) -> set[int]:
    return {root for axis, role in tracing.roles if role in roles for root in _roots(tracing.labels.resolve(axis))}


def _roots(rows: Rows) -> set[int]:
    return set(np.unique(rows).tolist()) - {NONE}


def _union(axes: list[Rows]) -> set[int]:
    return set().union(*(_roots(rows) for rows in axes))
