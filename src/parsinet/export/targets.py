"""The forms a network can be exported to, by the names of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parsinet.errors import UsageError, suggest
from parsinet.export.bundle_folder import bundle
from parsinet.export.csr_folder import csr
from parsinet.export.exported import Exported
from parsinet.export.onnx_file import onnx
from parsinet.export.program_file import torch_export
from parsinet.export.runs import Exportable
from parsinet.export.tensors_folder import safetensors


@dataclass(frozen=True)
class Target:
    """place: the usual name within RUN/export. options: those it takes. write: (what, where, options) → what was left."""

    place: str
    write: Callable[[Exportable, Path, Mapping[str, Any]], Exported]
    options: tuple[str, ...] = ()


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "onnx": Target("model.onnx", lambda what, out, _: onnx(what.model, what.inputs, out)),
        "torch-export": Target("model.pt2", lambda what, out, _: torch_export(what.model, what.inputs, out)),
        "safetensors": Target("safetensors", lambda what, out, _: safetensors(what.model, out)),
        "csr": Target("csr", lambda what, out, options: csr(what.model, what.inputs, out, **options), ("batch",)),
        "bundle": Target("bundle", lambda what, out, options: _bundle(what, out, **options), ("license",)),
    }
)


def names() -> tuple[str, ...]:
    """What `write` knows."""
    return tuple(TARGETS)


def check(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a target that is unknown, or an option that has no effect on it. Raises UsageError."""
    if target not in TARGETS:
        raise UsageError(f"Unknown target {target!r}.{suggest(target, TARGETS)}")
    for option in options:
        if option not in TARGETS[target].options:
            takers = [name for name, each in TARGETS.items() if option in each.options]
            raise UsageError(f"{option} has no effect with {target}; it belongs to {', '.join(takers) or 'no target'}.")


def write(what: Exportable, target: str, out: str | Path, **options: Any) -> Exported:
    """Export to one of `names()`. options: `batch` of csr, `license` of bundle.

    Errors: those of the function of that name; UsageError for an unknown target or an option it does not take.
    """
    check(target, options)
    return TARGETS[target].write(what, Path(out), options)


def _bundle(what: Exportable, out: Path, license: str = "other") -> Exported:
    return bundle(what.model, what.inputs, out, facts=replace(what.facts, license=license))
