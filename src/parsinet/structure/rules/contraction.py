"""Operators that sum over products: linear maps, matrix products, convolutions, attention, embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from parsinet.structure.attention import hidden_reader
from parsinet.structure.attributes import NAMED_RULES, is_kind
from parsinet.structure.axes import NONE, Axis, fixed
from parsinet.structure.tracing import Tracing, Value

LAYERS = (
    nn.Linear,
    nn.Bilinear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Embedding,
    nn.EmbeddingBag,
)


def linear(ctx: Tracing, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """y[..., o] = Σ_i x[..., i] w[o, i] + b[o]."""
    reader = hidden_reader(ctx.module, ctx.owner, weight.name)
    ctx.contract(x, len(x.axes) - 1, weight, 1, gate=bool(reader) or isinstance(ctx.owner, nn.Linear), reader=reader)
    out = _add_bias(ctx, weight.axes[0], bias)
    return Value((*x.axes[:-1], out), x.constant and weight.constant)


def matmul(ctx: Tracing, left: Value, right: Value, *, gate: bool = False) -> Value:
    """Matrix product with broadcast batch axes; vectors as in torch.matmul."""
    a = left if len(left.axes) > 1 else left.with_axes((fixed(1), *left.axes))
    b = right if len(right.axes) > 1 else right.with_axes((*right.axes, fixed(1)))
    ctx.contract(a, len(a.axes) - 1, b, len(b.axes) - 2, gate=gate)
    tracked = a.axes[-1].tracked and bool((a.axes[-1].rows != NONE).all())
    batch_shape = ctx.shape()[: max(len(a.axes), len(b.axes)) - 2]
    batch = ctx.unify_shapes([a.with_axes(a.axes[:-2]), b.with_axes(b.axes[:-2])], batch_shape)
    if not (left.constant or right.constant):
        _name_attention(ctx, a.axes[-1] if tracked else b.axes[-1], "qk_dim" if tracked else "v_dim", batch.axes)
    for value in (a, b):
        if value.constant:
            _produce(ctx, value.axes[-1] if value is b else value.axes[-2])
    axes = [*batch.axes, *([a.axes[-2]] if len(left.axes) > 1 else []), *([b.axes[-1]] if len(right.axes) > 1 else [])]
    return Value(tuple(axes), left.constant and right.constant)


def addmm(ctx: Tracing, bias: Value, left: Value, right: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """bias + left · right."""
    product = matmul(ctx, left, right, gate=_in_layer(ctx))
    return ctx.unify_shapes([product, bias], ctx.shape())


def addmv(ctx: Tracing, bias: Value, left: Value, right: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """bias + matrix · vector."""
    return addmm(ctx, bias, left, right)


def dot(ctx: Tracing, left: Value, right: Value) -> Value:
    """Σ_i a_i b_i."""
    ctx.contract(left, 0, right, 0)
    return Value((), left.constant and right.constant)


def outer(ctx: Tracing, left: Value, right: Value) -> Value:
    """a_i b_j."""
    return Value((left.axes[0], right.axes[0]), left.constant and right.constant)


def bilinear(ctx: Tracing, left: Value, right: Value, weight: Value, bias: Value | None = None) -> Value:
    """y[..., o] = Σ_ij a[..., i] w[o, i, j] b[..., j] + bias[o]."""
    for value, axis in ((left, 1), (right, 2)):
        ctx.contract(value, len(value.axes) - 1, weight, axis)
    lead = ctx.unify_shapes([value.with_axes(value.axes[:-1]) for value in (left, right)], ctx.shape()[:-1])
    return Value((*lead.axes, _add_bias(ctx, weight.axes[0], bias)))


def einsum(ctx: Tracing, equation: str, operands: list[Value], path: Any = None) -> Value:
    """Einstein sums over single letters; an ellipsis is not understood."""
    inputs, _, result = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "." in equation or "->" not in equation or any(len(set(term)) != len(term) for term in terms):
        for operand in operands:
            ctx.freeze(operand, f"{ctx.where} uses an einsum form that is not understood")
        return ctx.unknown(ctx.shape())
    found: dict[str, tuple[Value, int]] = {}
    for term, operand in zip(terms, operands, strict=True):
        for d, letter in enumerate(term):
            if letter not in found:
                found[letter] = (operand, d)
                continue
            other, e = found[letter]
            if letter in result:
                ctx.labels.unify(other.axes[e], operand.axes[d], ctx.where)
            else:
                ctx.contract(other, e, operand, d)
                if not (other.constant or operand.constant):
                    known = [name for name, (first, _) in found.items() if name in result and first is not operand]
                    shared = [axis for name, axis in zip(term, operand.axes, strict=True) if name in known]
                    _name_attention(ctx, operand.axes[d], "qk_dim", shared)
    for letter, (operand, d) in found.items():
        if letter not in result and sum(letter in term for term in terms) == 1:
            ctx.run_over(operand.axes[d])
    for term, operand in zip(terms, operands, strict=True):
        for letter, axis in zip(term, operand.axes, strict=True):
            if operand.constant and letter in result:
                _produce(ctx, axis)
    return Value(tuple(found[letter][0].axes[found[letter][1]] for letter in result), all(operand.constant for operand in operands))


def convolution(
    ctx: Tracing, x: Value, weight: Value, bias: Value | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Value:
    """Convolution of any dimension; weight [out, in/groups, taps].

    In a grouped convolution channel (g, j) of the input carries {group g, position j}: a group may leave (with its inputs and
    outputs), or a position in every group.
    """
    c = _channel_axis(ctx, x, weight)
    gate = isinstance(ctx.owner, LAYERS)
    if groups == 1:
        ctx.contract(x, c, weight, 1, gate=gate)
        out = weight.axes[0]
    else:
        inner = weight.axes[1].size
        group_in, position = ctx.labels.split(x.axes[c], (groups, inner), ctx.where)
        group_out, _ = ctx.labels.split(weight.axes[0], (groups, weight.axes[0].size // groups), ctx.where)
        _couple_groups(ctx, group_in, group_out, named=inner > 1)
        if inner > 1:
            ctx.meet(x, position, weight, weight.axes[1])
            ctx.note_read(c - len(x.axes), ctx.labels.merge([fixed(groups), position]), gate and weight.constant)
        else:
            ctx.labels.freeze(weight.axes[1], "a depthwise filter has one input channel")
        out = weight.axes[0]
    out = _add_bias(ctx, out, bias)
    pointwise = all(axis.size == 1 for axis in weight.axes[2:]) and _all(stride, 1) and (isinstance(padding, str) or _all(padding, 0))
    positions = x.axes[c + 1 :] if pointwise else _fixed_positions(ctx, x, c)
    return Value((*x.axes[:c], out, *positions), x.constant and weight.constant)


def conv_transpose(
    ctx: Tracing,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Transposed convolution; weight [in, out/groups, taps]."""
    c = _channel_axis(ctx, x, weight)
    ctx.contract(x, c, weight, 0, gate=isinstance(ctx.owner, LAYERS))
    out = weight.axes[1]
    _produce(ctx, out)
    if groups > 1:
        group, _ = ctx.labels.split(weight.axes[0], (groups, weight.axes[0].size // groups), ctx.where)
        if group.tracked and isinstance(ctx.owner, LAYERS):
            ctx.count("groups", group)
        if group.tracked and weight.axes[0].size > groups:
            ctx.roles.append((group, "groups"))
        out = ctx.labels.merge([group, out])
    out = _add_bias(ctx, out, bias)
    return Value((*x.axes[:c], out, *_fixed_positions(ctx, x, c)), x.constant and weight.constant)


def attention(
    ctx: Tracing,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(q kᵀ · scale) v over [..., heads, positions, dimension]; with `enable_gqa` query heads share a key head."""
    ctx.contract(query, len(query.axes) - 1, key, len(key.axes) - 1)
    ctx.roles.append((value.axes[-1], "v_dim"))
    if scale is None and query.axes[-1].tracked:
        ctx.inexact.append((query.axes[-1], f"the scale 1/√d of {ctx.where} changes with it"))
    batch = ctx.unify_shapes([key.with_axes(key.axes[:-2]), value.with_axes(value.axes[:-2])], _batch(key))
    heads = batch.axes[-1] if batch.axes else fixed(1)
    if enable_gqa and query.axes[-3].size != heads.size:
        shared, each = ctx.labels.split(query.axes[-3], (heads.size, query.axes[-3].size // heads.size), ctx.where)
        ctx.labels.unify(shared, heads, ctx.where)
        ctx.roles.append((each, "queries"))
        batch = batch.with_axes((*batch.axes[:-1], query.axes[-3]))
    batch = ctx.unify_shapes([query.with_axes(query.axes[:-2]), batch], ctx.shape()[:-2])
    if attn_mask is not None:
        ctx.unify_shapes([attn_mask.with_axes(attn_mask.axes[:-2]), batch], ctx.shape()[:-2])
    ctx.labels.unify(key.axes[-2], value.axes[-2], ctx.where)
    _name_attention(ctx, query.axes[-1], "qk_dim", [] if enable_gqa else batch.axes)
    if enable_gqa:
        ctx.roles.append((heads, "heads"))
    return Value((*batch.axes, query.axes[-2], value.axes[-1]))


def embedding(ctx: Tracing, weight: Value, indices: Value, *_: Any, **__: Any) -> Value:
    """Rows of a table chosen by the input."""
    ctx.labels.freeze(weight.axes[0], "rows of an embedding are chosen by the input")
    _produce(ctx, weight.axes[1])
    return Value((*indices.axes, weight.axes[1]))


def embedding_bag(ctx: Tracing, weight: Value, indices: Value, *_: Any, **__: Any) -> list[Value | None]:
    """Sums or means of rows chosen by the input; the other results are bookkeeping."""
    bag = embedding(ctx, weight, indices)
    return [bag.with_axes((fixed(ctx.shape(0)[0]), bag.axes[-1])), None, None, None]


def _batch(value: Value) -> tuple[int, ...]:
    return tuple(axis.size for axis in value.axes[:-2])


def _channel_axis(ctx: Tracing, x: Value, weight: Value) -> int:
    """Where the channels of a convolution's input are; the kernel's taps are fixed."""
    for axis in weight.axes[2:]:
        ctx.labels.freeze(axis, "taps of a kernel")
    return len(x.axes) - len(weight.axes) + 1


def _fixed_positions(ctx: Tracing, x: Value, c: int) -> list[Axis]:
    """What follows the channels of a convolution's input must stay: its order counts."""
    for axis in x.axes[c + 1 :]:
        ctx.labels.freeze(axis, f"{ctx.where} runs along it")
    return [fixed(size) for size in ctx.shape()[c + 1 :]]


def _all(numbers: int | Iterable[int], value: int) -> bool:
    return all(number == value for number in ([numbers] if isinstance(numbers, int) else numbers))


def _add_bias(ctx: Tracing, out: Axis, bias: Value | None) -> Axis:
    _produce(ctx, out)
    return out if bias is None else ctx.labels.unify(out, bias.axes[0], ctx.where)


def _produce(ctx: Tracing, axis: Axis) -> None:
    ctx.produce(axis, ctx.module if _in_layer(ctx) else "")


def _in_layer(ctx: Tracing) -> bool:
    """Whether the running module is a layer: its input feeds one contraction with its weight."""
    owner = ctx.owner
    return isinstance(owner, LAYERS) or (owner is not None and any(is_kind(owner, kind) for kind in NAMED_RULES))


def _couple_groups(ctx: Tracing, group_in: Axis, group_out: Axis, named: bool) -> None:
    ctx.labels.unify(group_in, group_out, ctx.where)
    if isinstance(ctx.owner, LAYERS):
        ctx.count("groups", group_out)
    if named:
        ctx.roles.append((group_out, "groups"))


def _name_attention(ctx: Tracing, axis: Axis, role: str, batch: Iterable[Axis]) -> None:
    """Two activations meet: tracked batch axes are heads (of a single one only the place is left), `axis` is a head's dimension.

    Without heads `axis` is what its producer made: the output of a similarity's tower.
    """
    batch = list(batch)
    heads = [entry for entry in batch if entry.tracked]
    if heads or len(batch) > 1 or (axis.tracked and (axis.rows >= ctx.seeded).any()):
        ctx.roles.append((axis, role))
    ctx.roles.extend((entry, "heads") for entry in heads)
