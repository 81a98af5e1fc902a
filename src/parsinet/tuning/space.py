"""A space: which entries of a recipe may change from trial to trial, and between what."""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parsinet.errors import UsageError, suggest

FIXED = {
    "seed": "all trials begin from the same one; give the seeds of all trials with --seeds",
    "data.source": "trials on different data do not compare; start one sweep for each",
    "data.folder": "it belongs to the machine; set it in the recipe",
    "data.download": "it belongs to the machine; set it in the recipe",
    "data.validation": "all trials must be judged by the same examples; set it in the recipe",
    "data.split_seed": "all trials must be judged by the same examples; set it in the recipe",
    "data.block": "trials on different data do not compare; start one sweep for each",
    "device": "it belongs to the machine; set it in the recipe",
    "threads": "it belongs to the machine; set it in the recipe",
    "checkpoint": "it does not change what a run computes; set it in the recipe",
}
"""Entries that no space may hold, and why."""
KEYS = ("low", "high", "log", "step", "choices")
FORMS = "{low: 1e-4, high: 1e-2, log: true} or {choices: [16, 32]}"


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included. whole: only whole ones. log: even in their logarithm. step: only low + i · step."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    def ends(self) -> tuple[float, float]:
        """The values that are tried out before anything runs, as they are drawn: with a fraction, if not only whole ones are."""
        return (self.low, self.high) if self.whole else (float(self.low), float(self.high))

    def plain(self) -> dict[str, Any]:
        """The range as it is written in YAML."""
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, "log": self.log, **step}


@dataclass(frozen=True)
class Choices:
    """Values of any kind, lists and sections included; the sampler knows them by their JSON."""

    values: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """The values that are tried out before anything runs: all."""
        return self.values

    def plain(self) -> dict[str, Any]:
        """The choices as they are written in YAML."""
        return {"choices": list(self.values)}

    def names(self) -> tuple[str, ...]:
        """Each value as JSON, which tells 1 from true and "1"."""
        return tuple(_json(value) for value in self.values)


Entry = Range | Choices


def space_from(values: Mapping[str, Any], *, source: str = "Space") -> dict[str, Entry]:
    """Check what a space says by itself: `{"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}`.

    Whether the recipe has such entries, and takes such values, `definition.define` tells.

    Errors: UsageError with one sentence that begins with `source` and names the entry.
    """
    if not values:
        raise UsageError(f"{source} is empty. Name at least one entry of the recipe, such as optimizer.lr: {FORMS}.")
    space = {path: _entry(f"{source}: {path}", entry) for path, entry in values.items() if _usable(source, path)}
    for one, other in itertools.permutations(space, 2):
        if other.startswith(f"{one}."):
            raise UsageError(f"{source}: {other} lies within {one}, so one would overwrite the other. Keep one of them.")
    return space


def _usable(source: str, path: Any) -> bool:
    if not isinstance(path, str) or not all(path.split(".")):
        raise UsageError(f"{source}: {path!r} is no entry of a recipe. Write the path with dots, such as optimizer.lr.")
    for fixed, reason in FIXED.items():
        if f"{path}.".startswith(f"{fixed}.") or fixed.startswith(f"{path}."):
            raise UsageError(f"{source}: {path} cannot be tuned: {fixed} stays the same in all trials, as {reason}.")
    return True


def _entry(who: str, entry: Any) -> Entry:
    if not isinstance(entry, Mapping) or not entry:
        raise UsageError(f"{who} needs {FORMS}, got {entry!r}.")
    for key in entry:
        if key not in KEYS:
            raise UsageError(f"{who}: unknown key {key!r}.{suggest(str(key), KEYS)}")
    if "choices" in entry:
        if len(entry) > 1:
            raise UsageError(f"{who}: choices go alone, without {', '.join(key for key in KEYS if key in entry and key != 'choices')}.")
        return _choices(who, entry["choices"])
    return _range(who, **entry)


def _choices(who: str, values: Any) -> Choices:
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise UsageError(f"{who}: choices must be a list of at least two values, got {values!r}. A single value belongs into the recipe.")
    try:
        names = [_json(value) for value in values]
    except (TypeError, ValueError):
        raise UsageError(f"{who}: choices must be numbers, words, lists and sections, got {values!r}.") from None
    if len(set(names)) < len(names):
        raise UsageError(f"{who}: the choice {next(name for name in names if names.count(name) > 1)} is there twice. Keep one.")
    return Choices(tuple(values))


def _range(who: str, low: Any = None, high: Any = None, log: Any = False, step: Any = None) -> Range:
    for word, value in (("low", low), ("high", high), *(() if step is None else (("step", step),))):
        if value is None:
            raise UsageError(f"{who}: {word} is missing. Write {FORMS}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{who}: {word} must be a finite number, got {value!r}.")
    if not isinstance(log, bool):
        raise UsageError(f"{who}: log must be true or false, got {log!r}.")
    if low >= high:
        raise UsageError(f"{who}: the range from {low:g} to {high:g} is empty. low must be < high; a single value belongs into the recipe.")
    if log and low <= 0:
        raise UsageError(f"{who}: a logarithmic range needs low > 0, got {low:g}. Use a small positive low, or log: false.")
    if step is not None and (log or not 0 < step <= high - low):
        reason = "log and step exclude each other" if log else f"step must be > 0 and at most high − low = {high - low:g}, got {step:g}"
        raise UsageError(f"{who}: {reason}.")
    whole = all(isinstance(value, int) for value in (low, high, *(() if step is None else (step,))))
    return Range(low, high, whole, log, step)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
