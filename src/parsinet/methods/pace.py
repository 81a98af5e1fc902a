"""When gates act in a run: how fast they fall, when units leave, when the gated phase is over."""

from __future__ import annotations

from dataclasses import dataclass

from parsinet.errors import UsageError
from parsinet.gates.averages import FIRST
from parsinet.methods.options import check_number, check_whole
from parsinet.methods.schedule import last_step, usual_interval

DEFAULT_FALL_STEPS = 1000
FALLS = 10
"""Falls in a run. With doubt twice as many: noise, which a fast fall lets close gates, hardly moves those that doubt."""
GATED = 0.6
GATED_TO_TARGET = 0.4
"""The same where prices follow a target: what is chosen sooner has longer to train, and the steps until then cost more than those after."""
DOUBT, GATED_IN_DOUBT = 2.0, 0.7
"""Both where estimates are noisy beside the price, see `noise`: there the noise costs more than the longer phase."""
LONG = 10 * FIRST
"""Steps in which gates act, from which on doubt is usual there: it averages `FIRST` estimates before a gate moves."""
GUARD_SHARE = 0.01
"""Share of the fall time between two looks at whether a whole group is closing, at most 10 steps: θ moves a hundredth under its price."""


@dataclass(frozen=True)
class Pace:
    """The steps of one run, counted from 1.

    fall_steps: in which θ falls from 1 to 0 under the price alone. interval: between removals. first: the last step of the warm-up.
    last: the end of the gated phase, 0 if the length of the run is unknown. gated: the share of the run until then. doubt: standard errors
    by which an average is doubted, 0 for estimates as they come.
    """

    fall_steps: int
    interval: int
    first: int
    last: int
    gated: float
    doubt: float

    def guards(self, step: int) -> bool:
        """Whether it is time to look at whether a whole group is closing."""
        return step % max(1, min(10, int(GUARD_SHARE * self.fall_steps))) == 0

    def looks(self, step: int) -> bool:
        """Whether it is time for prices to follow the gates, and for units to leave."""
        return step % self.interval == 0

    def removes(self, step: int) -> bool:
        """Whether units may leave after this step."""
        return step > self.first and self.looks(step)

    def over(self, step: int) -> bool:
        """Whether the gated phase is over after this step."""
        return self.last > 0 and step >= self.last


@dataclass(frozen=True)
class PaceOptions:
    """gated and warmup are shares of the run, fall_steps and interval steps, None for what follows from its length; clamp bounds a step's
    force, doubt slows gates that are not sure. gated, doubt: None for what is usual. targeted: prices follow a target. See `Gates`."""

    gated: float | None
    warmup: float
    fall_steps: int | None
    interval: int | None
    clamp: float | None
    doubt: float | None
    targeted: bool

    def __post_init__(self) -> None:
        """UsageError for values out of range."""
        check_number("Gates", "gated", self.gated, above=0, most=1.0)
        check_number("Gates", "warmup", self.warmup, least=0, most=1.0)
        check_whole("Gates", "fall_steps", self.fall_steps)
        check_whole("Gates", "interval", self.interval)
        check_number("Gates", "clamp", self.clamp, above=0)
        check_number("Gates", "doubt", self.doubt, least=0, most=100)

    def of(self, steps: int | None, *, noisy: bool = True, walks: float = 1.0) -> Pace:
        """The pace of a run of so many steps, None if its length is unknown.

        noisy: on the way to a target estimates are noisy beside the price; True while that is unknown. walks: the share of the gated phase
        before gates that stand at 0 or 1 stay there. UsageError for a warm-up that leaves no time to gates, and for doubt in a run too
        short for it.
        """
        gated, doubt = self._usual(steps, noisy=self.targeted and noisy, walks=walks)
        if self.warmup >= gated:
            raise UsageError(
                f"Gates: with warmup={self.warmup:g} no unit could leave before gates cease to act, at gated={gated:g} of the run. "
                "Make warmup smaller, or gated larger."
            )
        faster, last = 2 if doubt else 1, last_step(gated, steps)
        if doubt and last and round(walks * last) <= FIRST:
            raise UsageError(
                f"Gates: doubt averages {FIRST} estimates before a gate moves, and gates move for {round(walks * last)} steps of this run, "
                "before those that are open or closed stay so. Train longer, or leave doubt out."
            )
        fall_steps = self.fall_steps or (max(1, steps // (FALLS * faster)) if steps else DEFAULT_FALL_STEPS // faster)
        first = int(self.warmup * steps) if steps else 0
        return Pace(fall_steps, self.interval or usual_interval(steps), first, last, gated, doubt)

    def _usual(self, steps: int | None, *, noisy: bool, walks: float) -> tuple[float, float]:
        """gated and doubt."""
        last = last_step(self.gated or GATED_IN_DOUBT, steps)
        lasts = steps is None or (last >= LONG and round(walks * last) > FIRST)
        doubt = self.doubt if self.doubt is not None else DOUBT if noisy and lasts else 0.0
        usual = GATED_IN_DOUBT if noisy and doubt else GATED_TO_TARGET if self.targeted else GATED
        return self.gated if self.gated is not None else usual, doubt
