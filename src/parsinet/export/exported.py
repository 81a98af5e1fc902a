"""What an export left: where, how closely it agrees with the network, how long each form takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parsinet.export.agreement import Agreement
from parsinet.measure import Latency


@dataclass(frozen=True)
class Exported:
    """path: the file or folder. bytes: of all files. agreement: with the network it came from; None where every tensor was read back and
    held against it bit by bit. latency: batch → form → times, of this machine, taken in turns in one process. notes: sentences on what is
    special about it."""

    path: Path
    bytes: int
    agreement: Agreement | None
    latency: Mapping[int, Mapping[str, Latency]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.bytes:,} bytes; {self.agreement or 'every tensor read back is the same, bit by bit'}"]
        lines += [_line(batch, times) for batch, times in self.latency.items()]
        return "\n".join([*lines, *self.notes])


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())


def _line(batch: int, times: Mapping[str, Latency]) -> str:
    """`batch 64: torch 80 µs (p95 90), ONNX Runtime 40 µs (p95 45), 2.00 times as fast`."""
    told = ", ".join(f"{form} {1e6 * time.median:,.0f} µs (p95 {1e6 * time.p95:,.0f})" for form, time in times.items())
    first, *_, last = times.values()
    return f"batch {batch}: {told}, {first.median / last.median:.2f} times as fast"
