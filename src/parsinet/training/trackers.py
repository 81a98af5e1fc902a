"""Adapters to packages that show runs: one small class per package, which is imported when a run names it."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from parsinet.errors import MissingExtraError
from parsinet.files import make_folder, write_text

PROJECT = "parsinet"
"""What runs are filed under, unless the package's own environment variables say otherwise."""


class Tracker(ABC):
    """What the adapters share: the package, the run's place and its identity over resumes.

    folder: where what has to be remembered lies. settings: of the run. resumed: the step it goes on from, None at its start.
    """

    name: ClassVar[str]
    module: ClassVar[str]

    def __init__(self, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        make_folder(folder)
        self._identity = folder / f"{self.name}.txt"
        self._begin(self.check(), folder, settings, resumed)

    @classmethod
    def check(cls) -> Any:
        """The package; MissingExtraError that names the install command where it is missing."""
        try:
            return importlib.import_module(cls.module)
        except ImportError as error:
            raise MissingExtraError(f"The logger {cls.name} needs a package: pip install 'parsinet[{cls.name}]'.") from error

    @abstractmethod
    def _begin(self, package: Any, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        """Open a run of the package, or the one that goes on."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, after so many optimizer steps."""

    @abstractmethod
    def close(self) -> None:
        """Nothing comes any more."""

    def _known(self, resumed: int | None) -> str | None:
        """The package's name for the run, where it goes on."""
        return self._identity.read_text(encoding="utf-8").strip() if resumed is not None and self._identity.is_file() else None

    def _remember(self, identity: str) -> None:
        write_text(self._identity, f"{identity}\n")


class TensorBoard(Tracker):
    """Event files in `loggers/tensorboard` of the run's folder. Steps that are taken again after a resume replace the earlier ones."""

    name, module = "tensorboard", "torch.utils.tensorboard"

    def _begin(self, package: Any, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        self._writer = package.SummaryWriter(str(folder / self.name), purge_step=None if resumed is None else resumed + 1)
        if resumed is None:
            self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in _flat(settings)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Scalars, on the disk at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class MLflow(Tracker):
    """A run in the experiment `parsinet`, or MLFLOW_EXPERIMENT_NAME, in the store of MLFLOW_TRACKING_URI. A resumed run stays the same."""

    name, module = "mlflow", "mlflow"

    def _begin(self, package: Any, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        self._client = package.MlflowClient()
        known = self._known(resumed)
        if known is not None:
            self._run = known
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=folder.parent.name).info.run_id
        self._remember(self._run)
        for key, value in _flat(settings):
            self._client.log_param(self._run, key, str(value)[:500])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Metrics; characters MLflow does not take become underscores."""
        for name, value in values.items():
            self._client.log_metric(self._run, "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name), value, step=step)

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run)


class WandB(Tracker):
    """A run of the project `parsinet`, or WANDB_PROJECT. A resumed run stays the same; what it was told already it does not take again."""

    name, module = "wandb", "wandb"

    def _begin(self, package: Any, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        known = self._known(resumed)
        self._run = package.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.parent.name,
            dir=str(folder),
            config=dict(settings),
            id=known,
            resume=None if known is None else "allow",
        )
        self._remember(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Metrics of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is sent or stored."""
        self._run.finish()


class Trackio(Tracker):
    """A run of the project `parsinet`, or TRACKIO_PROJECT, under the name of the run's folder. A resumed run stays the same."""

    name, module = "trackio", "trackio"

    def _begin(self, package: Any, folder: Path, settings: Mapping[str, Any], resumed: int | None) -> None:
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        known = self._known(resumed)
        self._run = package.init(
            project=project, name=known or folder.parent.name, config=dict(_flat(settings)), resume="never" if known is None else "allow"
        )
        self._remember(self._run.name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Metrics of a step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until all is stored."""
        self._run.finish()


TRACKERS: Mapping[str, type[Tracker]] = {kind.name: kind for kind in (TensorBoard, MLflow, WandB, Trackio)}
"""What a recipe may name as a logger."""


def _flat(settings: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested settings with its dotted path."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value
