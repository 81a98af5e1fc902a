"""The network over time: its groups of units, and how wide each was before training, after every epoch and in the result."""

from typing import Any

from parsinet.report import timeline
from parsinet.report.page.curves import thinned
from parsinet.report.records import Epoch, Run, Size


def network(run: Run, most: int) -> dict[str, Any]:
    """groups: name, size, fixed (why units cannot leave, None where they can). moments: title, epoch, widths in the order of the groups,
    parameters, macs, error (with `of`, the examples it is of; None where unknown). At most `most` moments, first and last included."""
    groups = {**run.groups, **{name: size for name, size in timeline.groups(run).items() if name not in run.groups}}
    shown = [run.epochs[place] for place in thinned(len(run.epochs), max(2, most - 2))]
    widths = dict(groups)
    moments = [_moment("before training", 0, widths, run.start, (None, ""))]
    for epoch in shown:
        widths = {**widths, **{name: units for name, units in epoch.widths.items() if name in widths}}
        moments.append(_moment(f"after epoch {epoch.epoch:,}", epoch.epoch, widths, epoch.size, _error(epoch)))
    if run.end is not None:
        last = {name: units for removal in run.removals for name, units in removal.widths.items()} | dict(run.end.widths)
        widths = {**widths, **{name: units for name, units in last.items() if name in widths}}
        final = run.epochs[-1].epoch if run.epochs else 0
        moments.append(_moment("the result", final, widths, run.end.after, (run.end.test_error, "test")))
    return {
        "groups": [{"name": name, "size": size, "fixed": run.fixed.get(name)} for name, size in groups.items()],
        "moments": moments,
    }


def _error(epoch: Epoch) -> tuple[float | None, str]:
    if epoch.validation_error is not None:
        return epoch.validation_error, "validation"
    return epoch.train_error, "training"


def _moment(title: str, epoch: int, widths: dict[str, int], size: Size, error: tuple[float | None, str]) -> dict[str, Any]:
    numbers = {"parameters": size.parameters, "macs": size.macs, "error": error[0], "of": error[1]}
    return {"title": title, "epoch": epoch, "widths": list(widths.values()), **numbers}
