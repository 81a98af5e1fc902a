"""Training: recipes, the bare loop, checkpoints, records, and whole runs in a folder."""

from parsinet.training.average import Average
from parsinet.training.checkpoint import load_checkpoint, save_checkpoint
from parsinet.training.compiled import Compiled
from parsinet.training.evaluate import Evaluation, evaluate
from parsinet.training.inspection import Inspection, UnitRow, inspect
from parsinet.training.loggers import Logger, Loggers
from parsinet.training.loop import NotFiniteError, fit
from parsinet.training.objective import cross_entropy, distillation
from parsinet.training.precision import Precision
from parsinet.training.recipe import Recipe
from parsinet.training.record import RecordWriter, read_record
from parsinet.training.recovery import recover
from parsinet.training.resolve import load_recipe, read_values, recipe_from, save_recipe, with_settings, with_values
from parsinet.training.run import RunResult, train
from parsinet.training.schedule import learning_rate
from parsinet.training.state import Callback, EpochResult, LoopState
from parsinet.training.stopping import RunInterrupted
from parsinet.training.teacher import Teacher

__all__ = [
    "Average",
    "Callback",
    "Compiled",
    "EpochResult",
    "Evaluation",
    "Inspection",
    "Logger",
    "Loggers",
    "LoopState",
    "NotFiniteError",
    "Precision",
    "Recipe",
    "RecordWriter",
    "RunInterrupted",
    "RunResult",
    "Teacher",
    "UnitRow",
    "cross_entropy",
    "distillation",
    "evaluate",
    "fit",
    "inspect",
    "learning_rate",
    "load_checkpoint",
    "load_recipe",
    "read_record",
    "read_values",
    "recipe_from",
    "recover",
    "save_checkpoint",
    "save_recipe",
    "train",
    "with_settings",
    "with_values",
]
