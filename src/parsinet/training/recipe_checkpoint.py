"""The section of a recipe that says when a run is saved, and what stays."""

from pydantic import model_validator

from parsinet.training.recipe_parts import Count, Flag, Part, Positive


class EveryPart(Part):
    """How often: after so many epochs, steps or minutes; where several are given, whenever one of them is due."""

    epochs: Count | None = None
    steps: Count | None = None
    minutes: Positive | None = None

    @model_validator(mode="after")
    def _something_is_given(self) -> "EveryPart":
        if self.epochs is None and self.steps is None and self.minutes is None:
            raise ValueError("needs epochs, steps or minutes, such as {epochs: 1}")
        return self


class CheckpointPart(Part):
    """When a run is saved besides its start, its last epoch and Ctrl-C or SIGTERM.

    every: how often. keep: so many of the newest stay, and of those saved the one with the lowest validation error. best: an epoch that
    lowers it is always saved.
    """

    every: EveryPart = EveryPart(epochs=1)
    keep: Count = 2
    best: Flag = False
