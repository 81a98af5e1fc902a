"""What the events of a run record say, as values: the run at its start, epochs, removals, the end. Unknown keys are ignored."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parsinet.report.records import End, Epoch, Removal, Run, Size, Timing
from parsinet.report.seeds import alike
from parsinet.report.told import told

Event = Mapping[str, Any]


def run_of(folder: Path, event: Event) -> Run:
    """The run that begins with a 'start' event; nothing has happened in it yet."""
    recipe = event.get("recipe") or {}
    dataset = event.get("dataset") or {}
    return Run(
        folder=folder,
        name=folder.resolve().name,
        method=_named(recipe.get("method")),
        model=_named(recipe.get("model")),
        dataset=_named(dataset),
        seed=event.get("seed"),
        versions=dict(event.get("versions") or {}),
        machine=dict(event.get("machine") or {}),
        start=_size(event),
        groups={group["name"]: int(group["size"]) for group in event.get("groups") or ()},
        epochs=(),
        removals=(),
        settled=None,
        total_epochs=None,
        end=None,
        status="unfinished",
        reason="",
        notes=(),
        input_shape=tuple(int(side) for side in dataset.get("input_shape") or ()) if isinstance(dataset, Mapping) else (),
        fixed={group["name"]: str(group.get("reason") or "") for group in event.get("groups") or () if not group.get("removable", True)},
        target=_target(recipe.get("method")),
        data=_data(dataset),
        recipe=alike(recipe),
    )


def _data(dataset: Any) -> tuple[Any, ...]:
    """What tells data of one name apart: the shape of an example, how many there are, and the targets if none are held out."""
    if not isinstance(dataset, Mapping):
        return ()
    held_out, digests = dataset.get("validation") or 0, dataset.get("sha256")
    targets = digests.get("targets") if isinstance(digests, Mapping) and not held_out else None
    trained = dataset.get("train")
    examples = trained + held_out if isinstance(trained, int) and isinstance(held_out, int) else None
    return (str(dataset.get("input_shape")), dataset.get("classes"), examples, dataset.get("test"), targets)


def epoch_of(event: Event) -> Epoch:
    """What an epoch measured."""
    return Epoch(
        epoch=int(event["epoch"]),
        step=int(event["step"]),
        size=_size(event),
        seconds=_number(event, "seconds") or 0.0,
        train_error=_number(event, "train_error"),
        validation_error=_number(event, "validation_error"),
        widths={name: int(units) for name, units in (event.get("widths") or {}).items()},
        theta=_theta(event.get("method")),
        price=_price(event.get("method")),
        prices=_prices(event.get("method")),
        loss=_number(event, "loss"),
        validation_loss=_number(event, "validation_loss"),
        told=told(event.get("method")),
    )


def removal_of(event: Event) -> Removal:
    """What is left after units have left."""
    after = {name: int(units[1]) for name, units in event["groups"].items()}
    return Removal(int(event["step"]), after, _size(event))


def end_of(event: Event) -> End:
    """What a run ended with."""
    return End(
        test_error=_number(event, "test_error"),
        train_seconds=_number(event, "train_seconds"),
        train_macs=_number(event, "train_macs"),
        dense_train_macs=_number(event, "dense_train_macs"),
        before=_size(event["before"]),
        after=_size(event["after"]),
        latency=tuple(_timing(entry) for entry in event.get("latency") or ()),
        inputs={name: tuple(int(unit) for unit in units) for name, units in (event.get("inputs") or {}).items()},
        widths={name: int(units) for name, units in (event.get("widths") or {}).items()},
    )


def _timing(entry: Mapping[str, Any]) -> Timing:
    before, after = entry["before"], entry["after"]
    return Timing(int(entry["batch"]), float(before["median"]), float(after["median"]), _number(before, "p95"), _number(after, "p95"))


def _size(event: Event) -> Size:
    stored, nonzeros = (None if event.get(key) is None else int(event[key]) for key in ("bytes", "nonzeros"))
    return Size(int(event["parameters"]), int(event["macs"]), stored, nonzeros)


def _named(entry: Any) -> str:
    """The name in a recipe entry, which is the name itself or a mapping that has one."""
    if isinstance(entry, Mapping):
        entry = entry.get("name")
    return str(entry) if entry else "?"


def _target(method: Any) -> str:
    target = method.get("target") if isinstance(method, Mapping) else None
    return target.strip() if isinstance(target, str) else ""


def _number(event: Event, key: str) -> float | None:
    """A finite number or None."""
    value = event.get(key)
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _price(described: Any) -> float | None:
    price = described.get("price") if isinstance(described, Mapping) else None
    return None if price is None else float(price)


def _prices(described: Any) -> dict[str, float]:
    """group → mean price of its units."""
    prices = {name: _number(facts, "price") for name, facts in _groups(described)}
    return {name: price for name, price in prices.items() if price is not None}


def _theta(described: Any) -> dict[str, tuple[float, ...]]:
    """group → θ of its units, from what the method said of itself; methods without gates say other things."""
    with_gates = ((name, facts["theta"]) for name, facts in _groups(described) if isinstance(facts.get("theta"), list))
    return {name: tuple(float(value) for value in theta) for name, theta in with_gates}


def _groups(described: Any) -> list[tuple[str, Mapping[str, Any]]]:
    groups = described.get("groups") if isinstance(described, Mapping) else None
    known = groups.items() if isinstance(groups, Mapping) else ()
    return [(name, facts) for name, facts in known if isinstance(facts, Mapping)]
