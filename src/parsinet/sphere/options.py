"""The options of one LpSGD group, and what is refused."""

import numbers
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parsinet.errors import ArgumentTypeError, ParsinetWarning, UsageError
from parsinet.sphere.geometry import SMALLEST_P, check_p

CHOICES: Mapping[str, tuple[str, ...]] = {
    "form": ("auto", "dual", "frank-wolfe"),
    "regrow": ("semi", "hard", "dense"),
    "norm_over": ("all", "active"),
    "rule": ("sgd", "adam"),
}
"""Options that are one word of a few."""


def check(options: Mapping[str, Any], quiet: bool = False) -> None:
    """Refuse options out of range; schedulers may change them, so every step looks again, and then quietly.

    Raises ArgumentTypeError or UsageError. Warns for p < 1.02 and for weight decay on spheres.
    """
    p = check_p("LpSGD", options["p"])
    _check_numbers(options)
    lr, decay = float(options["lr"]), options["weight_decay"]
    for name in ("constrained", "foreach", "nesterov"):
        if not isinstance(options[name], bool):
            raise ArgumentTypeError(f"LpSGD: {name} must be True or False, got {options[name]!r}.")
    constrained = options["constrained"]
    if not (0 <= lr < 1 if constrained else 0 <= lr < float("inf")):
        raise UsageError(f"LpSGD: lr must be in {'[0, 1) for a constrained group' if constrained else '[0, ∞)'}, got {lr}.")
    for name, top in (("momentum", 1), ("dampening", 1), ("weight_decay", float("inf")), ("g_min", float("inf"))):
        if not 0 <= options[name] <= top or (name == "momentum" and options[name] == 1):
            raise UsageError(f"LpSGD: {name} must be in [0, {top}{')' if name == 'momentum' else ']'}, got {options[name]}.")
    if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
        raise UsageError("LpSGD: nesterov needs momentum > 0 and dampening = 0.")
    for name, words in CHOICES.items():
        if options[name] not in words:
            raise UsageError(f"LpSGD: {name} must be one of {', '.join(words)}, got {options[name]!r}.")
    if not (len(options["betas"]) == 2 and all(0 <= beta < 1 for beta in options["betas"]) and 0 <= options["eps"] < float("inf")):
        raise UsageError(f"LpSGD: betas must be two numbers in [0, 1) and eps ≥ 0, got {options['betas']} and {options['eps']}.")
    if quiet or not constrained:
        return
    if p < SMALLEST_P:
        warnings.warn(
            f"LpSGD: p = {p} is below {SMALLEST_P}; float32 carries its powers badly. Use {SMALLEST_P} ≤ p ≤ 2.",
            ParsinetWarning,
            stacklevel=4,
        )
    if decay and p != 2:
        warnings.warn(
            f"LpSGD: weight_decay={decay} on a constrained group pulls along the sphere unless p = 2. Use 0.", ParsinetWarning, stacklevel=4
        )


def _check_numbers(options: Mapping[str, Any]) -> None:
    for name in ("lr", "momentum", "dampening", "weight_decay", "g_min", "eps"):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, numbers.Real | Tensor):
            raise ArgumentTypeError(f"LpSGD: {name} must be a number, got {type(value).__name__}.")
