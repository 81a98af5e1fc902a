"""The model card of a bundle: README.md as the Hugging Face Hub reads it, with the numbers of the run's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from parsinet.measure import Profile

TASKS = {"language": "text-generation", "image": "image-classification", "other": "tabular-classification"}
"""What the Hub calls the task, by what goes in."""


@dataclass(frozen=True)
class Facts:
    """What a card tells besides what can be measured on the network itself.

    name: of the architecture. license: an identifier of the Hub. task, dataset, classes, mean, std, divided_by: of the data, see
    `data.Dataset`.
    start, end: the first and the last event of the run's record.
    """

    name: str = "network"
    license: str = "other"
    task: str = ""
    dataset: str = ""
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    divided_by: int = 1
    start: Mapping[str, Any] = field(default_factory=dict)
    end: Mapping[str, Any] = field(default_factory=dict)


def card(facts: Facts, profile: Profile, shape: tuple[int, ...], dtype: str, example: str) -> str:
    """The whole README.md. shape, dtype: of one input example. example: the code that shows how it is used."""
    header = yaml.safe_dump(_header(facts, shape), sort_keys=False, allow_unicode=True)
    title = f"{facts.name} on {facts.dataset}" if facts.dataset else facts.name
    parts = [f"---\n{header}---\n\n# {title}", _intro(facts), _numbers(facts, profile), _inputs(facts, shape, dtype), _use(example)]
    return "\n\n".join(part for part in (*parts, _origin(facts)) if part) + "\n"


def _header(facts: Facts, shape: tuple[int, ...]) -> dict[str, Any]:
    """The YAML at the top: what the Hub filters and shows."""
    kind = "language" if facts.task == "language" else "image" if len(shape) == 3 else "other"
    task = TASKS[kind] if facts.task else None
    header: dict[str, Any] = {"license": facts.license, "library_name": "pytorch"}
    header |= {"pipeline_tag": task} if task else {}
    header["tags"] = ["parsinet", "pruning", "model-compression", *_method(facts)]
    header |= {"datasets": [facts.dataset]} if facts.dataset else {}
    if "test_error" in facts.end:
        accuracy = {"type": "accuracy", "value": round(1 - facts.end["test_error"], 6)}
        result = {"task": {"type": task or "other"}, "dataset": {"name": facts.dataset, "type": facts.dataset}, "metrics": [accuracy]}
        header |= {"metrics": ["accuracy"], "model-index": [{"name": facts.name, "results": [result]}]}
    return header


def _method(facts: Facts) -> list[str]:
    method = facts.start.get("recipe", {}).get("method", {}).get("name")
    return [] if method in (None, "dense") else [str(method)]


def _intro(facts: Facts) -> str:
    method = "".join(f", made small by the method `{name}` of parsinet while it was trained" for name in _method(facts))
    license_of = "" if facts.license != "other" else " Under which licence these weights may be used has not been stated."
    return f"A network in plain PyTorch{method}. It needs torch and safetensors; no file of it is a pickle.{license_of}"


def _numbers(facts: Facts, profile: Profile) -> str:
    """Before and after, from the record; without one, what the network is."""
    before, after = facts.end.get("before"), facts.end.get("after")
    if not before or not after:
        return f"| parameters | MACs per example |\n|---|---|\n| {profile.parameters:,} | {profile.macs:,} |"
    rows = [
        f"| {label} | {before[key]:,} | {after[key]:,} |" for key, label in (("parameters", "parameters"), ("macs", "MACs per example"))
    ]
    for entry in facts.end.get("latency", ()):
        times = [f"{1e6 * entry[side]['median']:,.0f} µs (p95 {1e6 * entry[side]['p95']:,.0f})" for side in ("before", "after")]
        rows.append(f"| forward pass, batch {entry['batch']} | {times[0]} | {times[1]} |")
    machine = facts.start.get("machine", {})
    return "\n".join(
        [
            f"Test error: **{100 * facts.end['test_error']:.2f} %** on {facts.start.get('dataset', {}).get('test', '?')} examples.",
            "",
            "| | before training | this network |",
            "|---|---|---|",
            *rows,
            "",
            f"Medians of torch, both in turns in one process: {machine.get('processor', 'unknown processor')}, "
            f"{machine.get('threads', '?')} threads.",
        ]
    )


def _inputs(facts: Facts, shape: tuple[int, ...], dtype: str) -> str:
    lines = [f"## Inputs\n\nA batch of any size, `[batch, {', '.join(map(str, shape))}]`, {dtype}."]
    if facts.mean:
        lines.append("Pixels in [0, 1]" if facts.divided_by != 1 else "Pixels as in the data" if len(shape) == 3 else "Columns")
        lines[-1] += ", less `mean`, divided by `std`, both in config.json, which the example shows."
    if facts.task == "language":
        lines.append("Numbers of characters in the list `classes` of config.json; outputs are scores of the character that comes next.")
    elif facts.classes:
        lines.append("Outputs are scores of the `classes` in config.json, in their order.")
    return " ".join(lines)


def _use(example: str) -> str:
    files = (
        "`model.py` holds the network, one line per operator, and checks the weights it loads. `structure.json` says which units left the "
        "original; parsinet rebuilds that network from it, to train on: `parsinet.load(folder, factory)`."
    )
    return f"## Use\n\nIn this folder:\n\n```python\n{example.rstrip()}\n```\n\n{files}"


def _origin(facts: Facts) -> str:
    if not facts.start:
        return ""
    recipe, versions = facts.start["recipe"], facts.start["versions"]
    told = f"{recipe['epochs']} epochs, seed {facts.start['seed']}, parsinet {versions['parsinet']}, torch {versions['torch']}"
    return f"## Training\n\nMethod `{recipe['method']['name']}`, optimizer `{recipe['optimizer']['name']}`, {told}."
