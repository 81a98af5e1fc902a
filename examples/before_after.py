"""The table at the end of an example: what a network held and took before, and what it holds and takes now."""

from __future__ import annotations

from torch import Tensor, nn

import parsinet as pn


def show(before: nn.Module, after: nn.Module, inputs: Tensor, **more: tuple[float, float]) -> None:
    """Print parameters, multiply-adds, bytes and latency of both, and rows of your own: name=(before, after)."""
    left, right = (pn.measure.profile(model, inputs, latency=False) for model in (before, after))
    rows = [(name, getattr(left, name), getattr(right, name)) for name in ("parameters", "macs", "bytes")]
    for batch in (1, len(inputs)):
        times = pn.measure.compare_latency({"before": before, "after": after}, inputs[:batch], repeats=30, seconds=1.0)
        rows.append((f"ms, batch {batch}", 1e3 * times["before"].median, 1e3 * times["after"].median))
    rows += [(name.replace("_", " "), *pair) for name, pair in more.items()]
    print(f"{'':20}{'before':>14}{'after':>14}")
    for name, old, new in rows:
        print(f"{name:20}{_written(old):>14}{_written(new):>14}")


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
