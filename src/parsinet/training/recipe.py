"""A recipe: every setting of one run as a frozen value that is stored beside the result."""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator, model_validator

from parsinet.training.recipe_checkpoint import CheckpointPart
from parsinet.training.recipe_lifts import AveragePart, DistillPart
from parsinet.training.recipe_parts import Count, Flag, NamedPart, NotNegative, Part, Positive, Seed, Share, Whole

DTYPES = MappingProxyType({"float32": torch.float32, "float64": torch.float64})
"""What a recipe may name as the dtype of its parameters."""


class AugmentationPart(Part):
    """Changes of training images: random crop after padding (pixels), mirror flip, a blanked square (side in pixels)."""

    crop_padding: Whole = 0
    flip: Flag = False
    cutout: Whole = 0


class DataPart(Part):
    """Which data, and how batches are cut.

    source: a known name or a path. folder: where its files lie. validation: share of the training split that is
    held out. split_seed: draws what is held out, and the test part of data that have none of their own; apart from the recipe's seed,
    so that runs with several seeds are judged on the same examples. block: characters per example, for text only. download: fetch
    missing files of a known name.
    """

    source: Annotated[str, Field(min_length=1)] = "digits"
    folder: Path | None = None
    validation: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    split_seed: Seed = 0
    batch_size: Count = 128
    augmentation: AugmentationPart = AugmentationPart()
    block: Count | None = None
    download: Flag = False


class ModelPart(NamedPart):
    """Which network: a known name or `package.module:factory`, and the options of its factory."""

    name: Annotated[str, Field(min_length=1)] = "lenet-300-100"


class MethodPart(NamedPart):
    """How the network becomes small: the method's name and its options."""

    name: Annotated[str, Field(min_length=1)] = "dense"


class Sgd(Part):
    """`torch.optim.SGD`."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: Flag = False
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Sgd":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0")
        return self


class AdaptivePart(Part):
    """What Adam and AdamW share."""

    lr: Positive = 1e-3
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Positive = 1e-8


class Adam(AdaptivePart):
    """`torch.optim.Adam`: weight decay inside the gradient."""

    name: Literal["adam"] = "adam"
    weight_decay: NotNegative = 0.0


class AdamW(AdaptivePart):
    """`torch.optim.AdamW`: weight decay beside the gradient."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NotNegative = 0.01


class LpSgd(Part):
    """`parsinet.sphere.LpSGD`: lr is the length of a step on the spheres; the method sets p and everything off the spheres."""

    name: Literal["lpsgd"] = "lpsgd"
    lr: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: Flag = True


class Constant(Part):
    """The same learning rate throughout, after a linear warm-up over a share of all steps."""

    kind: Literal["constant"] = "constant"
    warmup: Share = 0.0


class Steps(Part):
    """From epoch e (1-based) on, the learning rate lr: `steps: [[12, 3e-4], [17, 1e-4]]`."""

    kind: Literal["steps"] = "steps"
    steps: Annotated[tuple[tuple[Count, Positive], ...], Field(min_length=1)]
    warmup: Share = 0.0

    @model_validator(mode="after")
    def _epochs_ascend(self) -> "Steps":
        epochs = [epoch for epoch, _ in self.steps]
        if epochs != sorted(set(epochs)):
            raise ValueError(f"epochs of steps must ascend, got {epochs}")
        return self


class Cosine(Part):
    """Hold the learning rate for a share of all steps, then lower it on a half cosine to `final` times its value."""

    kind: Literal["cosine"] = "cosine"
    hold: Share = 0.0
    warmup: Share = 0.0
    final: Share = 0.0

    @model_validator(mode="after")
    def _shares_fit(self) -> "Cosine":
        if self.hold + self.warmup > 1:
            raise ValueError(f"warmup + hold must be ≤ 1, got {self.warmup} + {self.hold}")
        return self


OptimizerPart = Annotated[Sgd | Adam | AdamW | LpSgd, Field(discriminator="name")]
SchedulePart = Annotated[Constant | Steps | Cosine, Field(discriminator="kind")]


class Recipe(Part):
    """All settings of a run.

    seed: of the model's first weights, the batches and the method. threads: of torch; None leaves them alone.
    round_to: removals leave a multiple of so many units. ignored_layers: groups that stay whole. inputs: whether features of
    the model's inputs may leave too. fold: what moves into their readers' biases when units leave; fold_approximate: accept folds that
    are not exact.
    skips: layers of a plain network that are given a skip, by name or all that fit, so that they can leave whole (`structure.add_skips`).
    distill: a teacher in the loss. average: the mean of the last weights in their place, both off unless given.
    gradient_clip: largest allowed norm of the whole gradient. dtype: of parameters, and of what is computed unless precision says that
    forward passes are in 16 bits (`Precision`). channels_last: convolutions lie channel by channel in memory (`torch.channels_last`).
    accumulate: batches per step. compile: the forward pass of training through
    `torch.compile`, anew after every removal, or "settled": once the structure is fixed. deterministic: only algorithms that repeat
    bitwise, which takes longer on a GPU and raises where torch has none.
    checkpoint: when the run is saved, and what stays. loggers: who is told its numbers besides the record (`Loggers`).
    """

    data: DataPart = DataPart()
    model: ModelPart = ModelPart()
    method: MethodPart = MethodPart()
    optimizer: OptimizerPart = Adam()
    schedule: SchedulePart = Cosine(hold=0.5)
    epochs: Count = 20
    seed: Seed = 0
    threads: Count | None = None
    device: Annotated[str, Field(min_length=1)] = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["full", "bfloat16", "float16"] = "full"
    channels_last: Flag = False
    accumulate: Count = 1
    compile: Flag | Literal["settled"] = False
    deterministic: Flag = False
    round_to: Count = 4
    ignored_layers: tuple[str, ...] = ()
    inputs: Flag = False
    skips: Flag | tuple[str, ...] = False
    fold: Literal["none", "constant", "mean"] = "none"
    fold_approximate: Flag = False
    gradient_clip: Positive | None = None
    distill: DistillPart | None = None
    average: AveragePart | None = None
    checkpoint: CheckpointPart = CheckpointPart()
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = ()

    @field_validator("loggers")
    @classmethod
    def _loggers_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"each is told once, got {', '.join(value)}")
        return value

    @field_validator("skips", mode="before")
    @classmethod
    def _skips_are_names(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)):
            return value
        raise ValueError(f"must be true, false or a list of names of layers, got {value!r}")

    @field_validator("compile", mode="before")
    @classmethod
    def _compile_is_known(cls, value: Any) -> Any:
        if isinstance(value, bool) or value == "settled":
            return value
        raise ValueError(f"must be true, false or 'settled', got {value!r}")

    @model_validator(mode="after")
    def _mixed_precision_starts_from_float32(self) -> "Recipe":
        if self.precision != "full" and self.dtype != "float32":
            raise ValueError(f"precision {self.precision} goes with dtype float32, got dtype {self.dtype}")
        return self

    @model_validator(mode="after")
    def _approximation_needs_a_fold(self) -> "Recipe":
        if self.fold_approximate and self.fold == "none":
            raise ValueError("fold_approximate needs fold: constant or fold: mean")
        return self

    @model_validator(mode="after")
    def _steps_lie_inside(self) -> "Recipe":
        if isinstance(self.schedule, Steps) and self.schedule.steps[-1][0] > self.epochs:
            raise ValueError(f"schedule.steps names epoch {self.schedule.steps[-1][0]}, but epochs is {self.epochs}")
        return self

    @model_validator(mode="after")
    def _checkpoints_can_be_taken(self) -> "Recipe":
        epochs = self.checkpoint.every.epochs
        if epochs is not None and epochs > self.epochs:
            raise ValueError(f"checkpoint.every.epochs is {epochs}, but epochs is {self.epochs}")
        if self.checkpoint.best and self.data.validation == 0:
            raise ValueError("checkpoint.best needs a validation split to judge by; set data.validation")
        return self

    @model_validator(mode="after")
    def _the_mean_of_points_on_a_sphere_lies_inside(self) -> "Recipe":
        if self.average is not None and isinstance(self.optimizer, LpSgd):
            raise ValueError("average does not go with optimizer lpsgd: the mean of points on a sphere lies inside it")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe as plain values for YAML and JSON."""
        return self.model_dump(mode="json")
