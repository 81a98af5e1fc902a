"""The first event of a record: what is about to be trained, on what, from which data."""

from typing import Any

from parsinet.training import environment
from parsinet.training.assembly import Assembly
from parsinet.training.record import FORMAT


def start_event(parts: Assembly) -> dict[str, Any]:
    """Recipe, machine, data and network, JSON-able."""
    dataset = parts.dataset
    found = parts.pruner.structure
    groups = [*found.groups, *(block for block in found.blocks if block.name in parts.pruner.widths())]
    return {
        "format": FORMAT,
        "recipe": parts.recipe.plain(),
        "versions": environment.versions(),
        "machine": environment.machine(parts.device),
        "processes": parts.ranks.size,
        "commit": environment.commit(),
        "seed": parts.recipe.seed,
        "dataset": {
            "name": dataset.name,
            "train": len(dataset.train),
            "validation": len(dataset.validation) if dataset.validation else 0,
            "test": len(dataset.test),
            "input_shape": list(dataset.input_shape),
            "classes": dataset.num_classes,
            "task": dataset.task,
            "labels": list(dataset.classes),
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "divided_by": dataset.divided_by,
            "sha256": {key: parts.fingerprint[key] for key in ("inputs", "targets")},
        },
        "groups": [
            {"name": group.name, "size": group.size, "removable": group.removable, "exact": group.exact, "reason": group.reason}
            for group in groups
        ],
        "parameters": parts.before.parameters,
        "macs": parts.before.macs,
        "bytes": parts.before.bytes,
    }
