"""Sparse weights in training: masks that move, the rules that move them, and how they live with gradients and optimizers."""

from parsinet.topology.counters import Counters
from parsinet.topology.distribution import DISTRIBUTIONS, Wanted, apportion, check, erk_densities, wanted
from parsinet.topology.gradients import Score
from parsinet.topology.growth import GROWTHS, average_, lots, magnitudes, saliency
from parsinet.topology.masks import Masks
from parsinet.topology.moments import MaskAware, forget_
from parsinet.topology.rows import above_threshold, mean_active, relative_gradient, relative_magnitude, strongest
from parsinet.topology.rules import evolve, exchange, prune, regrow, scatter
from parsinet.topology.schedule import BangBang, Window, cosine_rate, cubic_sparsity
from parsinet.topology.selection import choose, top_k
from parsinet.topology.weights import COMPUTED, KINDS, last_layer, left_dense, maskable, unit_dims

__all__ = [
    "COMPUTED",
    "DISTRIBUTIONS",
    "GROWTHS",
    "KINDS",
    "BangBang",
    "Counters",
    "MaskAware",
    "Masks",
    "Score",
    "Wanted",
    "Window",
    "above_threshold",
    "apportion",
    "average_",
    "check",
    "choose",
    "cosine_rate",
    "cubic_sparsity",
    "erk_densities",
    "evolve",
    "exchange",
    "forget_",
    "last_layer",
    "left_dense",
    "lots",
    "magnitudes",
    "maskable",
    "mean_active",
    "prune",
    "regrow",
    "relative_gradient",
    "relative_magnitude",
    "saliency",
    "scatter",
    "strongest",
    "top_k",
    "unit_dims",
    "wanted",
]
