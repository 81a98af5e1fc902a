"""The phases of spectral training as shares of a run: eigenvalues alone, nodes leaving, everything training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from parsinet.errors import UsageError
from parsinet.methods.options import check_known, check_number
from parsinet.methods.schedule import cubic


@dataclass(frozen=True)
class Phases:
    """Shares of the run: until `eigenvalues` they train alone; units leave between `begin` and `end`."""

    eigenvalues: float
    begin: float
    end: float

    def alone(self, step: int, steps: int | None) -> bool:
        """Whether after this step of so many eigenvalues train alone."""
        return steps is not None and step < round(self.eigenvalues * steps)

    def gone(self, step: int, steps: int | None) -> float:
        """Which part of the share should be gone after this step: 1 − (1 − u)³ at part u of the way from begin to end."""
        return cubic(step, self.begin * (steps or 1), self.end * (steps or 1))


SCHEDULES: Mapping[str, Phases] = {
    "post": Phases(0.0, 1.0, 1.0),
    "pre": Phases(0.5, 0.5, 0.5),
    "distilled": Phases(0.2, 0.2, 0.2),
    "continuous": Phases(0.0, 0.1, 0.6),
}
"""post: remove after training. pre: eigenvalues first, remove, then train all. distilled: the same after a short warm-up.
continuous: remove on a cubic schedule while everything trains."""


def phases_of(schedule: str, eigenvalues: float | None, begin: float | None, end: float | None) -> Phases:
    """A schedule's phases with the caller's changes; those that were one moment move together where only one of them is given.

    Raises UsageError for an unknown schedule, shares outside [0, 1], an end before the begin, and nodes that leave while eigenvalues
    still train alone.
    """
    check_known("Spectral", "schedule", schedule, SCHEDULES)
    usual = SCHEDULES[schedule]
    given = {"eigenvalues": eigenvalues, "begin": begin, "end": end}
    if usual.begin == usual.end:
        given["begin"] = begin if begin is not None else end
        given["end"] = end if end is not None else begin
    if usual.eigenvalues == usual.begin:
        given["eigenvalues"] = eigenvalues if eigenvalues is not None else given["begin"]
        given["begin"] = given["begin"] if given["begin"] is not None else eigenvalues
        given["end"] = given["end"] if given["end"] is not None else eigenvalues
    phases = replace(usual, **{name: value for name, value in given.items() if value is not None})
    for name, value in asdict(phases).items():
        check_number("Spectral", name, value, "a share of the run", least=0, most=1)
    if phases.end < phases.begin:
        raise UsageError(f"Spectral: end must not be below begin, got {phases.begin} and {phases.end}.")
    if phases.begin < phases.eigenvalues:
        raise UsageError(
            f"Spectral: nodes would leave at begin={phases.begin}, while eigenvalues train alone, until {phases.eigenvalues} of the "
            "run. Give a later begin or a smaller eigenvalues."
        )
    return phases
