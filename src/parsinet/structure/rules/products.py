"""Operators that sum over products: linear maps, matrix products, Einstein sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from parsinet.structure.attention import hidden_reader
from parsinet.structure.axes import NONE, fixed
from parsinet.structure.letters import terms_of
from parsinet.structure.rules.attention import name_attention
from parsinet.structure.rules.emitting import add_bias, in_layer, produce
from parsinet.structure.tracing import Tracing, Value


def linear(ctx: Tracing, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """y[..., o] = Σ_i x[..., i] w[o, i] + b[o]."""
    reader = hidden_reader(ctx.module, ctx.owner, weight.name)
    ctx.contract(x, len(x.axes) - 1, weight, 1, gate=bool(reader) or isinstance(ctx.owner, nn.Linear), reader=reader)
    out = add_bias(ctx, weight.axes[0], bias)
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
        name_attention(ctx, a.axes[-1] if tracked else b.axes[-1], "qk_dim" if tracked else "v_dim", batch.axes)
    for value in (a, b):
        if value.constant:
            produce(ctx, value.axes[-1] if value is b else value.axes[-2])
    axes = [*batch.axes, *([a.axes[-2]] if len(left.axes) > 1 else []), *([b.axes[-1]] if len(right.axes) > 1 else [])]
    return Value(tuple(axes), left.constant and right.constant)


def grouped_mm(ctx: Tracing, x: Value, weight: Value, offsets: Value | None = None, *_: Any, **__: Any) -> Value:
    """A matrix for each of several groups of rows, as the experts of a mixture are computed: its kernels take whole 16 bytes only."""
    for value in (x, weight):
        ctx.freeze(value, f"{ctx.where} needs widths of whole 16 bytes; transformers' batched_mm does not")
    return ctx.unknown(ctx.shape())


def addmm(ctx: Tracing, bias: Value, left: Value, right: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """bias + left · right."""
    product = matmul(ctx, left, right, gate=in_layer(ctx))
    return ctx.add_up([product, bias], ctx.shape())


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
    return Value((*lead.axes, add_bias(ctx, weight.axes[0], bias)))


def einsum(ctx: Tracing, equation: str, operands: list[Value], path: Any = None) -> Value:
    """Einstein sums over single letters; the axes of a diagonal ("ii") stay, dimensions that broadcast are not understood."""
    terms, result = terms_of(equation, [len(operand.axes) for operand in operands])
    terms, operands = _off_diagonal(ctx, terms, operands)
    sizes = [
        (letter, axis.size) for term, operand in zip(terms, operands, strict=True) for letter, axis in zip(term, operand.axes, strict=True)
    ]
    if len(set(sizes)) != len(dict(sizes)):
        why = f"{ctx.where} uses an einsum form that is not understood"
        for operand in operands:
            ctx.freeze(operand, why)
        return ctx.unknown(ctx.shape(), why=why)
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
                    name_attention(ctx, operand.axes[d], "qk_dim", shared)
    for letter, (operand, d) in found.items():
        if letter not in result and sum(letter in term for term in terms) == 1:
            ctx.run_over(operand.axes[d])
    for term, operand in zip(terms, operands, strict=True):
        for letter, axis in zip(term, operand.axes, strict=True):
            if operand.constant and letter in result:
                produce(ctx, axis)
    return Value(tuple(found[letter][0].axes[found[letter][1]] for letter in result), all(operand.constant for operand in operands))


def _off_diagonal(ctx: Tracing, terms: Sequence[str], operands: list[Value]) -> tuple[list[str], list[Value]]:
    """Every letter of a term once. Both axes of a letter that comes twice are indexed together and must stay as they are."""
    single = []
    for term, operand in zip(terms, operands, strict=True):
        for letter, axis in zip(term, operand.axes, strict=True):
            if term.count(letter) > 1:
                ctx.labels.freeze(axis, f"{ctx.where} depends on the order of its indices")
        single.append(operand.with_axes([axis for d, axis in enumerate(operand.axes) if term[d] not in term[:d]]))
    return ["".join(dict.fromkeys(term)) for term in terms], single
