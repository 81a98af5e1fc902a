"""The sections of a recipe that may lower the error at a given size: a teacher, and the mean of the last weights."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from parsinet.training.recipe_parts import Part, Positive
from parsinet.training.teacher import TEMPERATURE, WEIGHT

PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class DistillPart(Part):
    """A teacher beside the labels: the network's own earlier, larger self, or the result of another run.

    weight: of the teacher in the loss. temperature: of both distributions. begin: share of the run after which the network's own average
    teaches; without it, as soon as units leave. decay: of that average. teacher: folder of a finished run that teaches instead.
    """

    weight: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = WEIGHT
    temperature: Positive = TEMPERATURE
    begin: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    decay: PartialShare | None = None
    teacher: Path | None = None

    @model_validator(mode="after")
    def _a_trained_teacher_has_no_begin(self) -> "DistillPart":
        if self.teacher is not None and (self.begin is not None or self.decay is not None):
            raise ValueError("begin and decay are of the network's own earlier self; with teacher leave them out")
        return self


class AveragePart(Part):
    """The mean of the last weights in their place. begin: share of the run before it, at the earliest when the structure is fixed.

    kind: the plain mean, or an exponential one with its decay.
    """

    begin: PartialShare = 0.9
    kind: Literal["equal", "ema"] = "equal"
    decay: PartialShare | None = None

    @model_validator(mode="after")
    def _decay_is_of_ema(self) -> "AveragePart":
        if self.decay is not None and self.kind != "ema":
            raise ValueError("decay needs kind: ema")
        return self
