"""How sparse a unit is, how sparse a given p is expected to make it, and which p to ask for."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from parsinet.errors import ArgumentTypeError, ParsinetWarning, UsageError
from parsinet.sphere.geometry import SMALLEST_P, check_p, unit_norm, within, working

C = 0.4
"""Shape of the gamma law of w² per p − 1, read off a curve of the authors (our specification); a guide, to be calibrated on a pilot run."""


def hoyer(w: Tensor, unit_dim: int = 0) -> Tensor:
    """Hoyer sparsity of every unit: 0 for equal magnitudes, 1 for a single non-zero entry, no matter the scale.

    H = (√n − ‖w‖₁/‖w‖₂)/(√n − 1), n all entries of the unit, zeros included. A unit of zeros has H = 1 (our choice).

    w: [units, …] with units along `unit_dim`, or one vector, a unit of its own. Returns [units], a scalar for a vector; float32 or wider.
    Layers are averaged over units, networks over layers weighted by their number of weights (authors' code).
    Raises UsageError for units with fewer than two entries. Source: Hoyer 2004, JMLR 5.
    """
    rows = w.unsqueeze(0) if w.dim() == 1 else w
    place = 0 if w.dim() == 1 else unit_dim
    dims = within(rows, place)
    n = math.prod(rows.shape[d] for d in dims)
    if n < 2:
        raise UsageError(f"hoyer: a unit needs at least 2 entries to be sparse, got {n} (shape {list(w.shape)}, unit_dim={unit_dim}).")
    x = working(rows)
    largest = x.abs().amax(dims, keepdim=True)
    scaled = x / torch.where(largest == 0, 1, largest)
    two = unit_norm(scaled, 2, place)
    ratio = torch.where(largest == 0, 1, scaled.abs().sum(dims, keepdim=True) / torch.where(two == 0, 1, two))
    value = ((math.sqrt(n) - ratio) / (math.sqrt(n) - 1)).flatten()
    return value[0] if w.dim() == 1 else value


def expected_hoyer(n: int, p: float, c: float = C) -> float:
    """Expected Hoyer sparsity of a unit of n weights trained on the unit Lp sphere, if its w² are independent gamma variables.

    a = c(p−1);  E[H] = (√n − n·Γ(a+½)Γ(na)/(Γ(a)Γ(na+½)))/(√n − 1), exact for the hypothesis w_i² ~ Gamma(a), any scale.

    n: entries per unit, ≥ 2. Raises UsageError for n < 2, p ≤ 1 or c ≤ 0.
    Source: the hypothesis "gamma" is in the abstract of W. Li et al., arXiv 2103.16013; c from their figure, the formula derived by us.
    """
    return _hoyer_of(_check_n("expected_hoyer", n), _shape("expected_hoyer", p, c))


def expected_sparsity(n: int, p: float, threshold: float = 0.2, c: float = C) -> float:
    """Expected share of a unit's weights that lie below `threshold` times the unit's mean magnitude, under the law of `expected_hoyer`.

    w_i²/‖w‖² ~ Beta(a, (n−1)a) and E[mean|w|]/‖w‖ = Γ(a+½)Γ(na)/(Γ(a)Γ(na+½)) =: m; share = I_x(a, (n−1)a), x = (threshold·m)²,
    the regularised incomplete beta function. For large n it is P(a, (threshold·Γ(a+½)/Γ(a))²), the regularised incomplete gamma function.
    The row's own mean is replaced by its expectation.

    threshold in (0, 1]: 0.2 is the share of the mean under which the authors' topology evolution drops a weight.
    Raises UsageError for arguments out of range. Source: derived.
    """
    _check_threshold("expected_sparsity", threshold)
    return _share_below(_check_n("expected_sparsity", n), _shape("expected_sparsity", p, c), threshold)


def p_for_hoyer(n: int, target: float, c: float = C) -> float:
    """The p for which `expected_hoyer(n, p, c)` is `target`; found by bisection, to rounding.

    target in (0, 1). If it asks for p < 1.02, warns and returns 1.02: go further with masks. Raises UsageError for arguments out of range,
    naming what can be reached.
    """
    _check_n("p_for_hoyer", n)
    return _solve("p_for_hoyer", lambda a: _hoyer_of(n, a), target, c, 1e4)


def p_for_sparsity(n: int, target: float, threshold: float = 0.2, c: float = C) -> float:
    """The p for which `expected_sparsity(n, p, threshold, c)` is `target`: that share of the weights is small enough to be dropped.

    Sparsity is here the share of weights below `threshold` times the mean magnitude of their unit, not a number of exact zeros, of which
    the sphere alone makes none.
    target in (0, 1). If it asks for p < 1.02, warns and returns 1.02: go further with masks. Raises UsageError for arguments out of range.
    Source: derived.
    """
    _check_n("p_for_sparsity", n)
    _check_threshold("p_for_sparsity", threshold)
    return _solve("p_for_sparsity", lambda a: _share_below(n, a, threshold), target, c, 10.0)


def _hoyer_of(n: int, a: float) -> float:
    """E[H] for shape a. 1 − √n·m through expm1, for m is close to 1/√n when a is large."""
    root = math.sqrt(n)
    return -root * math.expm1(0.5 * math.log(n) + _half_step(a) - _half_step(n * a)) / (root - 1)


def _share_below(n: int, a: float, threshold: float) -> float:
    """I_x(a, b) by its power series in x: x·b ≤ threshold²·a, so the terms fall quickly for the a ≤ 10 asked for."""
    b = (n - 1) * a
    x = (threshold * math.exp(_half_step(a) - _half_step(n * a))) ** 2
    term, total, k = 1.0, 1 / a, 0
    while abs(term) > 1e-18 and k < 10_000:
        k += 1
        term *= (k - b) * x / k
        total += term / (a + k)
    front = a * math.log(x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) if n * a < 1e5 else a * math.log(x * b) - math.lgamma(a)
    return min(1.0, math.exp(front) * total)


def _half_step(x: float) -> float:
    """log Γ(x+½) − log Γ(x), by the asymptotic series for large x, where the difference of two lgamma loses digits."""
    if x < 30:
        return math.lgamma(x + 0.5) - math.lgamma(x)
    return 0.5 * math.log(x) - 1 / (8 * x) + 1 / (192 * x**3) - 1 / (640 * x**5) + 17 / (14336 * x**7)


def _solve(who: str, value: Callable[[float], float], target: float, c: float, largest: float) -> float:
    """1 + a/c for the root of the falling function `value` of a, by bisection in log a."""
    if not 0 < target < 1:
        raise UsageError(f"{who}: target must be in (0, 1), got {target}.")
    if not c > 0:
        raise UsageError(f"{who}: c must be > 0, got {c}.")
    low, high = math.log(1e-8), math.log(largest)
    least, most = value(largest), value(1e-8)
    if not least < target < most:
        raise UsageError(f"{who}: target={target} is out of reach of every p; between {least:.3g} and {most:.9g} can be asked for.")
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if value(math.exp(middle)) > target else (low, middle)
    p = 1 + math.exp(low) / c
    if p >= SMALLEST_P:
        return p
    reached = value((SMALLEST_P - 1) * c)
    warnings.warn(
        f"{who}: target={target} asks for p = 1 + {p - 1:.2g}; {SMALLEST_P} is returned, which reaches {reached:.3f}.",
        ParsinetWarning,
        stacklevel=3,
    )
    return SMALLEST_P


def _shape(who: str, p: float, c: float) -> float:
    if not c > 0:
        raise UsageError(f"{who}: c must be > 0, got {c}.")
    return c * (check_p(who, p) - 1)


def _check_n(who: str, n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int):
        raise ArgumentTypeError(f"{who}: n must be a whole number of weights per unit, got {n!r}.")
    if n < 2:
        raise UsageError(f"{who}: n must be ≥ 2 weights per unit, got {n}.")
    return n


def _check_threshold(who: str, threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"{who}: threshold must be in (0, 1], got {threshold}.")
