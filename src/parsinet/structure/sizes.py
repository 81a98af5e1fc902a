"""Module attributes that repeat a number of units: names by what they count, in one table, and the units they are found to count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from parsinet.structure.attributes import RULES, is_kind
from parsinet.structure.axes import NONE, Axis, Rows, labelled
from parsinet.structure.tracing import Tracing, earliest

QUERY_HEADS = ("num_heads", "n_head", "n_heads", "heads", "nhead", "num_attention_heads")
KEY_HEADS = ("num_kv_heads", "n_kv_heads", "n_kv_head", "kv_heads", "num_key_value_heads")
HEADS = (*QUERY_HEADS, *KEY_HEADS)
HEAD_SIZES = ("head_dim", "dim_head", "d_head", "head_size", "attention_head_size", "d_k", "d_kv", "key_value_proj_dim", "dim_per_head")
PIECES = ("split_size", "time_step_rank", "ssm_state_size", "rotary_ndims", *HEAD_SIZES)
"""What a module cuts its tensors into."""
INNER = ("all_head_size", "inner_dim", "intermediate_size", "ffn_dim", "d_ff", "hidden_dim", "d_inner")
"""Widths within a module: one of its layers produces the units, another reads them."""
OUTER = ("hidden_size", "embed_dim", "d_model", "dim")
"""Widths between modules: what a module's layers read from outside. (Not `model_dim`: T5 scales its output by it.)"""

OWN_DIMS = {"out_features": 0, "in_features": 1, "out_channels": 0, "in_channels": 1}
"""Widths of a layer of one's own, and the dimension of all its weights that has it."""
OWN_INNER = ("intermediate_dim",)
"""Widths of a module that keeps its weights itself, as experts of transformers do, beside those of INNER."""

WEIGHTS: tuple[tuple[str, int, int | None], ...] = (
    ("torch.nn.modules.linear.Linear", 0, 1),
    ("torch.nn.modules.conv.Conv1d", 0, 1),
    ("torch.nn.modules.conv.Conv2d", 0, 1),
    ("torch.nn.modules.sparse.Embedding", 1, None),
    ("transformers.pytorch_utils.Conv1D", 1, 0),
)
"""Layer kind, and which dimensions of its weight are outputs and inputs."""


@dataclass(frozen=True)
class _Width:
    """An axis of a layer's weight as resolved labels: the layer, and the modules that first produce its units."""

    layer: str
    rows: Rows
    producers: frozenset[str]

    def within(self, path: str) -> bool:
        """Whether a layer of this module is the first to produce some of the units."""
        return any(_beneath(producer, path) for producer in self.producers)


def follow(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> None:
    """Count, for every attribute of the table that no operator was seen to use, the units it repeats the number of.

    An attribute follows only where its name says what it counts and exactly one class of units in that place has its value.
    """
    for path, name, axis in _own_widths(tracing, axes):
        if (path, name) not in tracing.counts:
            tracing.count_of(path, name, axis)
    owners = {path: names for path, module in tracing.model.named_modules() if (names := _names(module))}
    if not owners:
        return
    known = set(tracing.counts)
    dims, heads = _role(tracing, "qk_dim", "v_dim"), _role(tracing, "heads")
    widths = _widths(tracing, axes)
    for path, names in owners.items():
        own = [width for width in widths if _beneath(width.layer, path)]
        for name, value in names.items():
            found = [rows for rows in _candidates(name, path, own, dims, heads) if rows.shape[1] == value]
            if (path, name) not in known and len({_roots(rows) for rows in found}) == 1:
                tracing.count_of(path, name, labelled(found[0]))


def _own_widths(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> Iterator[tuple[str, str, Axis]]:
    """Attributes of modules that keep weights themselves: `out_features` where all weights have that size there, of the same units, and
    widths such as `intermediate_dim` where all axes of that size count the same units."""
    for path, module in tracing.model.named_modules():
        if any(isinstance(module, kind) for kind, _ in RULES):
            continue
        names = (f"{path}.{local}".removeprefix(".") for local in (*module._parameters, *module._buffers))
        weights = [axes[name] for name in names if name in axes]
        for attribute in (*OWN_DIMS, *INNER, *OWN_INNER) if weights else ():
            value = module.__dict__.get(attribute)
            if type(value) is not int:
                continue
            if attribute in OWN_DIMS:
                meant = [weight[OWN_DIMS[attribute]] for weight in weights if len(weight) > 1]
            else:
                meant = [axis for weight in weights for axis in weight if axis.size == value]
            fitting = [axis for axis in meant if axis.tracked and axis.size == value]
            if len(fitting) == len(meant) and len({_roots(tracing.labels.resolve(axis)) for axis in fitting}) == 1:
                yield path, attribute, fitting[0]


def _names(module: nn.Module) -> dict[str, int]:
    """Attributes of the table that the module keeps, unless a rule of its own covers it."""
    if any(isinstance(module, kind) for kind, _ in RULES):
        return {}
    return {name: module.__dict__[name] for name in (*HEADS, *HEAD_SIZES, *INNER, *OUTER) if type(module.__dict__.get(name)) is int}


def _candidates(name: str, path: str, widths: list[_Width], dims: frozenset[int], heads: frozenset[int]) -> Iterator[Rows]:
    """The axes an attribute of this name may count."""
    direct = [width for width in widths if width.layer.rpartition(".")[0] == path]
    if name in OUTER:
        outside = [width.rows for width in widths if not width.within(path)]
        yield from outside or [width.rows for width in direct]
        return
    for rows in (width.rows for width in direct if width.within(path)):
        own = np.array([bool(_roots(row) & dims) for row in rows], dtype=bool)
        if name in INNER:
            yield rows
        elif name in HEAD_SIZES and own.any():
            yield np.unique(rows[own], axis=1)
        elif name in HEADS and not own.all() and _roots(rows[~own]) & heads:
            yield np.unique(rows[~own], axis=1)


def _widths(tracing: Tracing, axes: Mapping[str, tuple[Axis, ...]]) -> list[_Width]:
    """The outputs and inputs of every layer whose kind is in the table."""
    raw, given, names = tracing.made()
    resolved = tracing.labels.resolve(labelled(raw[None]))
    first = earliest(resolved.T[resolved.T != NONE], tracing.labels.count)
    number = np.append(np.repeat(given, (resolved != NONE).sum(axis=0)), len(names) - 1)[first]
    widths = []
    for path, layer in tracing.model.named_modules():
        weight = axes.get(f"{path}.weight", ())
        dims = next(((out, into) for kind, out, into in WEIGHTS if is_kind(layer, kind)), ())
        for d in dims if weight else ():
            if d is not None and len(rows := tracing.labels.resolve(weight[d])):
                producers = frozenset(names[k] for k in np.unique(number[rows[rows != NONE]]).tolist())
                widths.append(_Width(path, rows, producers))
    return widths


def _role(tracing: Tracing, *roles: str) -> frozenset[int]:
    return frozenset(root for axis, role in tracing.roles if role in roles for root in _roots(tracing.labels.resolve(axis)))


def _roots(rows: Rows) -> frozenset[int]:
    return frozenset(np.unique(rows).tolist()) - {NONE}


def _beneath(path: str, module: str) -> bool:
    return bool(path) and (not module or path.startswith(f"{module}."))
