"""The folder of a run: what lies where, and when it may be taken."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parsinet import files
from parsinet.errors import StorageError, UsageError
from parsinet.training.recipe import Recipe
from parsinet.training.record import read_record
from parsinet.training.resolve import load_recipe, save_recipe


@dataclass(frozen=True)
class RunFolder:
    """The places in a run's folder."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Every setting, as resolved."""
        return self.path / "recipe.yaml"

    @property
    def record(self) -> Path:
        """The events, one JSON object per line."""
        return self.path / "record.jsonl"

    @property
    def model(self) -> Path:
        """The result: model.safetensors and structure.json."""
        return self.path / "model"

    @property
    def checkpoint(self) -> Path:
        """The latest resumable states."""
        return self.path / "checkpoint"

    @property
    def exports(self) -> Path:
        """The result in other forms."""
        return self.path / "export"

    @property
    def loggers(self) -> Path:
        """What loggers keep."""
        return self.path / "loggers"

    @property
    def _contents(self) -> tuple[Path, ...]:
        """What a run makes of its recipe, in the order in which it can go without leaving what cannot be resumed."""
        return self.checkpoint, self.model, self.path / "report", self.exports, self.loggers, self.record

    def check_free(self, overwrite: bool) -> None:
        """Refuse a folder that holds a run, unless it may be overwritten; one with things in the places of a run's that no run has made,
        which are not ours to replace; and one that cannot be written.

        Errors: UsageError; StorageError for a file in its place, a folder without permission, a full disk.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path} is a file. Choose a folder for the run.")
        there = [place.name for place in (*self._contents, self.recipe) if place.exists()]
        if there and not self.record.is_file():
            raise UsageError(
                f"{self.path} holds {there[0]} and no record of a run, to which it could belong; a run would put its own in its place. "
                "Choose another folder."
            )
        if there and not overwrite:
            raise UsageError(
                f"{self.path} already holds a run. Continue it with --resume, replace it with --overwrite, or choose another folder."
            )
        ground = next((place for place in (self.path, *self.path.absolute().parents) if place.is_dir()), self.path)
        with files.storage_errors(self.path), tempfile.TemporaryFile(dir=ground) as probe:
            probe.write(b"parsinet")
            probe.flush()
            os.fsync(probe.fileno())

    def begin(self, recipe: Recipe) -> None:
        """Make the folder; delete the run that is there, and nothing else in it; put the new recipe in the place of the old one."""
        files.make_folder(self.path)
        with files.storage_errors(self.path):
            for place in self._contents:
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)
        save_recipe(recipe, self.recipe)

    @property
    def complete(self) -> bool:
        """Whether a run has come to its end here."""
        return self.record.exists() and any(event["event"] == "end" for event in read_record(self.record))

    def stored_recipe(self, *, ended: bool = False) -> Recipe:
        """The recipe of a run that can be resumed, or with `ended` of any.

        Errors: UsageError if there is no run, or it has ended already.
        """
        if not self.recipe.is_file():
            raise UsageError(f"{self.path} holds no run to resume. Name the folder given to --out.")
        if self.complete and not ended:
            raise UsageError(f"The run in {self.path} is complete; there is nothing to resume.")
        return load_recipe(self.recipe)
