"""Weights on the unit Lp sphere: LpSGD, its geometry and step schedules, and the Hoyer sparsity a p leads to."""

from parsinet.sphere import schedule
from parsinet.sphere.geometry import conjugate, minimiser, retract, tangent, to_dual, to_primal, unit_norm
from parsinet.sphere.groups import param_groups
from parsinet.sphere.hoyer import expected_hoyer, expected_sparsity, hoyer, p_for_hoyer, p_for_sparsity
from parsinet.sphere.optimizer import LpSGD

__all__ = [
    "LpSGD",
    "conjugate",
    "expected_hoyer",
    "expected_sparsity",
    "hoyer",
    "minimiser",
    "p_for_hoyer",
    "p_for_sparsity",
    "param_groups",
    "retract",
    "schedule",
    "tangent",
    "to_dual",
    "to_primal",
    "unit_norm",
]
