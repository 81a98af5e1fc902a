"""Tuning: sweeps over the entries of a recipe on Optuna, shared by several workers and continued at any time."""

from parsinet.tuning.objectives import SIZES
from parsinet.tuning.space import Choices, Range, space_from
from parsinet.tuning.sweep import tune

__all__ = ["SIZES", "Choices", "Range", "space_from", "tune"]
