"""A gate z = h·ξ whose backward pass also hands out the per-example derivative of the loss in ξ."""

from collections.abc import Callable

import torch
from torch import Tensor

from parsinet.errors import RunError, UsageError
from parsinet.gates.owner import Owner


class QSink:
    """Collects the per-example derivatives of one gate group over all uses of its gate in one backward pass.

    A gate shared by several tensors (a residual stream, time steps) has one derivative per example: the sum over its uses, which must be
    taken before anything is squared. Take after every backward pass: what a later batch leaves would be added to this one.

    reduce: what to make of the sum [B, n], run as soon as the last use has arrived, while the numbers are still in the processor's cache;
    None to keep the sum itself. nested: called instead where a backward pass is to be differentiated again (create_graph=True): what it
    differentiates may be part of a loss only.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor] | None = None, nested: Callable[[], None] | None = None) -> None:
        self._reduce, self.nested = reduce, nested
        self._total: Tensor | None = None
        self._reduced: Tensor | None = None
        self._awaited = 0
        self._waits = False

    @property
    def empty(self) -> bool:
        """True if no backward pass went through the gate since the last `take`."""
        return self._total is None and self._reduced is None

    def expect(self) -> None:
        """A forward pass has used the gate once more."""
        self._awaited += 1

    def wait(self) -> None:
        """A forward pass has used the gate without gradients: that part may run again in the backward pass (gradient checkpointing), and
        then bring a use that was not announced. What seems the last may not be: `reduce` is left to `take`."""
        self._waits = True

    def add(self, q: Tensor) -> None:
        """Add one use. q: [B, n], taken over by the sink. Raises UsageError if an earlier use in this pass had another shape."""
        if self._total is None:
            self._total = q
        elif self._total.shape == q.shape:
            self._total += q
        else:
            raise UsageError(
                f"QSink: uses of one gate must share batch and units, got {list(q.shape)} after {list(self._total.shape)}. "
                "Call take() after every backward pass."
            )
        self._awaited -= 1
        if self._reduce is not None and self._awaited == 0 and not self._waits:
            self._reduced, self._total = self._reduce(self._total), None

    def take(self) -> Tensor:
        """The sum over uses [B, n], or what `reduce` made of it; and forget it.

        Raises RunError if no backward pass went through the gate since the last take.
        """
        total, reduced = self._total, self._reduced
        self._total = self._reduced = None
        self._awaited, self._waits = 0, False
        if reduced is not None:
            return reduced
        if total is None:
            raise RunError("QSink: nothing to take: no backward pass went through this gate since the last take().")
        return total if self._reduce is None else self._reduce(total)


class _Listener:
    """Hears the gradient of z = h·ξ once and hands q_{b,i} = Σ δz·h over the positions of unit i to a sink; then it lets h go."""

    def __init__(self, h: Tensor, axis: int, sink: QSink, owner: Owner | None) -> None:
        self._h: Tensor | None = h.detach()
        self._version = h._version
        self._axis, self._sink, self._owner = axis, sink, owner

    def __call__(self, delta: Tensor | None) -> None:
        h, self._h = self._h, None
        if h is None or delta is None:
            return
        if self._sink.nested is not None and torch.is_grad_enabled():
            self._sink.nested()
            return
        if h._version != self._version:
            raise RunError("gate: the gated tensor was changed in place before the backward pass; use the out-of-place operation there.")
        self._sink.add(_unit_sums(delta.detach(), h, self._axis, self._owner))


def gate(h: Tensor, xi: Tensor, axis: int, sink: QSink | None = None, owner: Owner | Tensor | None = None) -> Tensor:
    """Multiply the units of `h` by their gates; in training, leave the derivative in the gates with `sink`.

    z = h·ξ along `axis`; backward δh = δz·ξ and q_{b,i} = Σ_{positions of i} δz·h, a tensor [B, n] in float32 (float64 for float64 h).
    q is the derivative of the loss that was differentiated. For a mean loss over B examples it is NOT yet multiplied by B: the
    per-example derivative the estimators expect is B·q. A scaled loss (mixed precision) must be un-scaled by the caller.

    h: [B, ...], batch first, before the gate (z = 0 would hide it). xi: [n] (one draw per batch) or [B, n] (one per example), any real
    dtype; differentiated if it requires a gradient. axis: dimension of the units, not 0; negative counts from the end. owner: which unit
    owns each index of the axis (an `Owner`, or its int64 index [n_axis], which costs a search per call); None if index i is unit i. sink:
    None to multiply only; without gradient mode it receives nothing, nor from a second backward pass through the same graph. h may be a
    raw input that needs no gradient.
    Raises UsageError for shapes that do not fit. Source: derived in our specification; the method is Guenter & Sideris, arXiv 2205.04650.
    """
    place = axis + h.dim() if axis < 0 else axis
    if not 1 <= place < h.dim():
        raise UsageError(f"gate: axis must name a dimension of h after the batch (1 … {h.dim() - 1}), got {axis} for {list(h.shape)}.")
    if isinstance(owner, Tensor):
        owner = Owner.of(owner, xi.shape[-1])
    factor = _factor(h, xi, place, owner)
    if sink is None:
        return h * factor
    if not torch.is_grad_enabled():
        sink.wait()
        return h * factor
    source = h if h.requires_grad else h.detach().requires_grad_()
    z = source * factor
    sink.expect()
    z.register_hook(_Listener(h, place, sink, owner))  # type: ignore[no-untyped-call]
    return z


def _factor(h: Tensor, xi: Tensor, axis: int, owner: Owner | None) -> Tensor:
    """ξ per index of the axis, in h's dtype and a shape that broadcasts against h."""
    length = h.shape[axis]
    units, indices = (length, length) if owner is None else (owner.units, len(owner.index))
    if indices != length:
        raise UsageError(f"gate: owner must name a unit for each of the {length} indices of axis {axis}, got {indices}.")
    if xi.shape not in ((units,), (len(h), units)):
        raise UsageError(f"gate: xi must be [{units}] or [{len(h)}, {units}] for h of shape {list(h.shape)}, got {list(xi.shape)}.")
    values = xi.to(h.dtype)
    if owner is not None:
        values = owner.spread(values)
    if axis == h.dim() - 1 and (h.dim() == 2 or xi.dim() == 1):
        return values
    shape = [1] * h.dim()
    shape[axis] = length
    if xi.dim() == 2:
        shape[0] = len(h)
    return values.reshape(shape)


def _unit_sums(delta: Tensor, h: Tensor, axis: int, owner: Owner | None) -> Tensor:
    """Σ δz·h over all positions of each unit, [B, n], in at least float32; Σ Re(δz̄·h) of complex numbers."""
    if delta.is_complex():
        product = (delta.conj() * h).real
    else:
        product = delta * h if delta.dtype in (torch.float32, torch.float64) else delta.float() * h
    if h.dim() > 2:
        product = product.sum([dim for dim in range(1, h.dim()) if dim != axis])
    return product if owner is None else owner.collect(product)
