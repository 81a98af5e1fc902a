"""Whole residual branches as units of their own: which modules leave with which of them, and what a plan makes of that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Protocol

from parsinet.structure.blocks_absent import Answer

Clauses = frozenset[frozenset[str]]
"""Sets of blocks, any one of which, gone as a whole, takes something with it; none: it always stays."""

Place = tuple[str, int]

SUFFIX = "block"
"""How the name of a branch ends, a number aside."""


class Sized(Protocol):
    """What counts indices."""

    @property
    def size(self) -> int:
        """How many there are."""


@dataclass(frozen=True)
class Muted:
    """A branch whose addition reads zero: `module` returns zeros, of a tuple in place `element`."""

    module: str
    element: int | None = None


@dataclass(frozen=True)
class Departure:
    """A module that leaves once nothing needs it: what its stand-in answers, and where the size of the answer's own axis is written."""

    module: str
    answer: Answer
    clauses: Clauses
    place: Place | None = None

    def answer_now(self, sizes: Mapping[Place, Sized]) -> Answer:
        """The answer with the present size of its axis."""
        return self.answer if self.place is None else replace(self.answer, size=sizes[self.place].size)


@dataclass(frozen=True)
class Bare:
    """A parameter that a staying module reads, and on which nothing depends once the blocks of a clause are gone."""

    tensor: str
    clauses: Clauses


@dataclass(frozen=True)
class Blocks:
    """Everything the engine knows of a network's residual branches. producers: block → where it is silenced and gated. sought: whether
    they were looked for; else there are none."""

    producers: Mapping[str, Muted]
    departures: tuple[Departure, ...] = ()
    bare: tuple[Bare, ...] = ()
    sought: bool = True

    def without_identities(self) -> Blocks:
        """The same where modules that only hand their input on stay, and their parts leave."""
        return replace(self, departures=tuple(departure for departure in self.departures if not departure.answer.same))

    def leaving(self, gone: Iterable[str]) -> tuple[Departure, ...]:
        """The outermost modules that leave with these blocks."""
        blocks = frozenset(gone)
        touched = sorted({number for name in (*blocks, "") for number in self._named.get(name, ())})
        found = [self.departures[number] for number in touched if _holds(self.departures[number].clauses, blocks)]
        paths = {departure.module for departure in found}
        return tuple(departure for departure in found if not beneath_any(departure.module, paths))

    @cached_property
    def _named(self) -> dict[str, list[int]]:
        """Per block the departures, by number, in whose clauses it occurs; under "" those that wait for nothing."""
        found: dict[str, list[int]] = {}
        for number, departure in enumerate(self.departures):
            for name in frozenset[str]().union(*departure.clauses) if all(departure.clauses) else ("",):
                found.setdefault(name, []).append(number)
        return found

    def unneeded(self, gone: Iterable[str]) -> tuple[str, ...]:
        """The parameters of staying modules on which nothing depends without these blocks."""
        blocks = frozenset(gone)
        paths = {departure.module for departure in self.leaving(blocks)}
        found = [entry.tensor for entry in self.bare if _holds(entry.clauses, blocks)]
        return tuple(name for name in found if not beneath_any(name, paths))

    def vanishing(self, gone: Iterable[str]) -> frozenset[str]:
        """These blocks, and those within the modules that leave."""
        blocks = frozenset(gone)
        paths = {departure.module for departure in self.leaving(blocks)}
        inner = {name for name, muted in self.producers.items() if within_any(muted.module, paths)}
        return blocks | inner

    def after(self, gone: Iterable[str]) -> Blocks:
        """The same once they have left."""
        blocks = self.vanishing(gone)
        if not blocks:
            return self
        paths = {departure.module for departure in self.leaving(gone)}
        bare = set(self.unneeded(gone))

        def stays(path: str) -> bool:
            return not within_any(path, paths)

        return Blocks(
            {name: muted for name, muted in self.producers.items() if name not in blocks},
            tuple(replace(entry, clauses=_without(entry.clauses, blocks)) for entry in self.departures if stays(entry.module)),
            tuple(replace(e, clauses=_without(e.clauses, blocks)) for e in self.bare if stays(e.tensor) and e.tensor not in bare),
        )


NO_BLOCKS = Blocks({}, sought=False)


def is_within(path: str, module: str) -> bool:
    """Whether the path is the module's or that of something in it."""
    return path == module or is_beneath(path, module)


def is_beneath(path: str, module: str) -> bool:
    """Whether the path is that of something in the module."""
    return path.startswith(f"{module}.")


def within_any(path: str, modules: Collection[str]) -> bool:
    """Whether the path is one of the modules' (a set) or that of something in one of them."""
    return path in modules or beneath_any(path, modules)


def beneath_any(path: str, modules: Collection[str]) -> bool:
    """Whether the path is that of something in one of the modules (a set)."""
    return not owners(path).isdisjoint(modules)


@lru_cache(maxsize=65536)
def owners(path: str) -> frozenset[str]:
    """The paths of all modules around a path, the model itself aside: of `a.b.c` those are `a` and `a.b`."""
    return frozenset(path[:end] for end, letter in enumerate(path) if letter == ".")


def _holds(clauses: Clauses, gone: frozenset[str]) -> bool:
    return any(clause <= gone for clause in clauses)


def _without(clauses: Clauses, gone: frozenset[str]) -> Clauses:
    return frozenset(clause - gone for clause in clauses)
