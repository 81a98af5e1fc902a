"""Bernoulli gates with the flattening hyper-prior: prices, gradient estimators, the gate itself and its stability tests."""

from parsinet.gates.antithetic import PAIR_ESTIMATORS, PairEstimator, antithetic, arm, disarm
from parsinet.gates.averages import average_, doubted
from parsinet.gates.drawn_labels import LABEL_ESTIMATORS, LabelEstimator, draw_labels, drawn_curvature, is_cross_entropy
from parsinet.gates.estimators import ESTIMATORS, Estimator, curvature_corrected, exact_flip, exact_flips, straight_through
from parsinet.gates.gate import QSink, gate
from parsinet.gates.hyperprior import log_density, log_gamma, optimal_prior, price, profile
from parsinet.gates.owner import Owner
from parsinet.gates.prices import Complexity, Term
from parsinet.gates.stability import attracted, box
from parsinet.gates.trials import MOST, PANEL, Trials, Verdict
from parsinet.gates.update import dead_units, ema_, ema_weight, open_units, pin_best_, theta_step_

__all__ = [
    "ESTIMATORS",
    "LABEL_ESTIMATORS",
    "MOST",
    "PAIR_ESTIMATORS",
    "PANEL",
    "Complexity",
    "Estimator",
    "LabelEstimator",
    "Owner",
    "PairEstimator",
    "QSink",
    "Term",
    "Trials",
    "Verdict",
    "antithetic",
    "arm",
    "attracted",
    "average_",
    "box",
    "curvature_corrected",
    "dead_units",
    "disarm",
    "doubted",
    "draw_labels",
    "drawn_curvature",
    "ema_",
    "ema_weight",
    "exact_flip",
    "exact_flips",
    "gate",
    "is_cross_entropy",
    "log_density",
    "log_gamma",
    "open_units",
    "optimal_prior",
    "pin_best_",
    "price",
    "profile",
    "straight_through",
    "theta_step_",
]
