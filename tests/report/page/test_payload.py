"""The numbers the script draws from are those of the record; what is left out of a long run is left out evenly."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parsinet.report import read
from parsinet.report.page.curves import thinned
from parsinet.report.page.markup import embedded
from parsinet.report.page.payload import payload
from parsinet.report.page.views import BINS

Make = Callable[..., Path]
BEGUN = {"event": "start", "format": 1, "parameters": 10, "macs": 5, "groups": [{"name": "fc", "size": 8}]}
CURVES = ("loss", "validation_loss", "train_error", "validation_error", "parameters", "macs")


def of(folder: Path) -> dict[str, Any]:
    """The payload of a single run, through JSON."""
    told = json.loads(embedded(payload([read(folder)])))
    assert len(told["runs"]) == 1
    return dict(told["runs"][0])


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    every = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    return [event for event in every if event["event"] == kind]


def curve_faults(told: dict[str, Any], folder: Path) -> list[str]:
    """Where curves differ from the record."""
    wanted = events(folder, "epoch")
    curves = told["curves"]
    faults = [key for key in (*CURVES, "epoch", "seconds") if curves[key] != [event.get(key) for event in wanted]]
    return faults + ([] if curves["epochs"] == len(wanted) else ["epochs"])


def width_faults(told: dict[str, Any], folder: Path) -> list[str]:
    """Where the network's widths over time differ from the record."""
    names = [group["name"] for group in told["network"]["groups"]]
    (start,) = events(folder, "start")
    sizes = {group["name"]: group["size"] for group in start["groups"]}
    moments = told["network"]["moments"]
    wanted = [sizes] + [{**sizes, **event["widths"]} for event in events(folder, "epoch")]
    wanted += [{**wanted[-1], **event["widths"]} for event in events(folder, "end")]
    pairs = itertools.zip_longest(moments, wanted)
    return [moment["title"] for moment, widths in pairs if dict(zip(names, moment["widths"], strict=True)) != widths]


@pytest.mark.parametrize("name", ["dense", "gates", "deep"])
def test_curves_and_widths_are_the_records(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    told = of(folder)
    assert curve_faults(told, folder) == []
    assert width_faults(told, folder) == []


def test_the_checks_object(gates: Path) -> None:
    told = of(gates)
    told["curves"]["loss"][3] += 1e-9
    told["curves"]["epochs"] += 1
    told["network"]["moments"][5]["widths"][0] += 1
    assert curve_faults(told, gates) == ["loss", "epochs"]
    assert width_faults(told, gates) == ["after epoch 5"]


def test_sizes_change_at_removals(gates: Path) -> None:
    told = of(gates)
    removals = [(event["parameters"], event["macs"]) for event in events(gates, "removal")]
    drawn = list(zip(told["sizes"]["parameters"], told["sizes"]["macs"], strict=True))
    assert set(removals) <= set(drawn)
    assert told["sizes"]["epoch"] == sorted(told["sizes"]["epoch"])
    assert drawn[0] == (told["start"]["parameters"], told["start"]["macs"])


def test_every_unit_is_in_one_bin(gates: Path) -> None:
    (view,) = of(gates)["views"]
    assert (view["kind"], view["low"], view["high"]) == ("theta", 0, 1)
    for group in view["groups"]:
        told = [event["method"]["groups"][group["name"]]["theta"] for event in events(gates, "epoch")]
        assert [sum(counts) for counts in group["counts"]] == [len(theta) for theta in told]
        assert group["counts"][0] == [sum(bin_of(value) == place for value in told[0]) for place in range(BINS)]
        assert group["latest"] == {"place": 19, "units": len(told[-1]), "mean": pytest.approx(sum(told[-1]) / len(told[-1]))}


def bin_of(value: float) -> int:
    """The slow twin: the last bin whose lower edge is not above the value."""
    return max(place for place in range(BINS) if place / BINS <= value)


def test_what_methods_tell_of_weights(make: Make) -> None:
    described = [
        {"hoyer": {"a": 0.5, "b": None}, "p": {"a": 1.2}, "tensors": {"a": {"active": 1, "size": 4, "density": 0.25}}, "sparsity": 0.75},
        {"layers": {"a": {"entries": 8, "kept": 2}}, "hoyer": {"a": float("nan")}, "groups": {"fc": {"score": [-1.0, None, 3.0]}}},
        {"hoyer": [1, 2], "groups": {"fc": {"score": "high"}}, "p": 3, "tensors": {"a": 1}},
        "nonsense",
    ]
    run = make([BEGUN, *(epoch_of(number, method) for number, method in enumerate(described, 1))])
    views = {view["kind"]: view for view in of(run)["views"]}
    lines = {kind: {line["name"]: line["values"] for line in views[kind]["lines"]} for kind in ("hoyer", "p", "density")}
    assert lines["hoyer"] == {"a": [0.5, None, None, None]}
    assert lines["p"] == {"a": [1.2, None, None, None]}
    assert lines["density"] == {"a": [0.25, 0.25, None, None]}
    assert (views["score"]["low"], views["score"]["high"]) == (-1, 3)
    assert [counts and sum(counts) for counts in views["score"]["groups"][0]["counts"]] == [None, 2, None, None]


def epoch_of(number: int, method: Any) -> dict[str, Any]:
    known = {"event": "epoch", "epoch": number, "epochs": 9, "step": number, "parameters": 10, "macs": 5, "seconds": 1.0}
    return {**known, "method": method}


def test_inputs_are_drawn_where_they_are(make: Make) -> None:
    told = of(make("whole"))["inputs"]
    assert told == {"channels": [["101", "101"]], "kept": 4, "inputs": 6}
    assert of(make("no epochs", "other"))["inputs"] is None


def test_reasons_of_groups_that_stay(make: Make) -> None:
    groups = of(make("whole"))["network"]["groups"]
    assert [group["fixed"] for group in groups] == [None, None, "it is part of the model's output"]


def test_every_record_gives_numbers_json_has(make: Make, case: str) -> None:
    told = of(make(case))
    assert told["network"]["moments"][0]["title"] == "before training"
    assert all(len(moment["widths"]) == len(told["network"]["groups"]) for moment in told["network"]["moments"])


@pytest.mark.parametrize(("length", "most"), [(0, 5), (1, 5), (5, 5), (6, 5), (1000, 7), (10, 2)])
def test_thinning_is_even_and_keeps_both_ends(length: int, most: int) -> None:
    places = thinned(length, most)
    assert len(places) == len(set(places)) == min(length, most)
    assert places == sorted(places)
    assert not length or (places[0], places[-1]) == (0, length - 1)
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def long_run(folder: Path, epochs: int, groups: int, units: int) -> Path:
    """A run of many epochs and groups, each unit with a θ."""
    names = [f"layer{number}.conv" for number in range(groups)]
    start = {"event": "start", "format": 1, "parameters": 10**6, "macs": 10**8, "groups": [{"name": name, "size": units} for name in names]}
    theta = {name: {"theta": [round(place / units, 4) for place in range(units)]} for name in names}
    widths = dict.fromkeys(names, units)
    lines = [json.dumps(start)]
    for number in range(1, epochs + 1):
        measured = {
            "loss": 1.2345678901234567 / number,
            "train_error": 0.1234567890123 / number,
            "validation_error": 0.12345678901 / number,
        }
        lines.append(json.dumps({**epoch_of(number, {"groups": theta}), **measured, "step": 400 * number, "widths": widths}))
    folder.mkdir()
    (folder / "record.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("epochs", "groups", "units"), [(200, 3, 300), (1000, 2, 20), (30, 100, 64)])
def test_a_page_stays_small(epochs: int, groups: int, units: int, tmp_path: Path) -> None:
    run = read(long_run(tmp_path / "long", epochs, groups, units))
    size = len(embedded(payload([run])))
    assert size < 440_000, size
