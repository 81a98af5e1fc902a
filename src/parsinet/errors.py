"""What parsinet raises: one base class and a few children, each also the built-in kind a caller would expect."""

import difflib
from collections.abc import Iterable, Sequence


class ParsinetError(Exception):
    """Base of every error parsinet raises on purpose: one sentence that says what came, what was expected and what to do."""


class UsageError(ParsinetError, ValueError):
    """An argument, option or recipe entry has a value that cannot be used."""


class ArgumentTypeError(ParsinetError, TypeError):
    """An argument has the wrong type."""


class DataError(ParsinetError, ValueError):
    """A data set or a file cannot be read as what it claims to be."""


class StructureError(ParsinetError, ValueError):
    """A removal was asked for that the network's structure does not allow."""


class RunError(ParsinetError, RuntimeError):
    """A run cannot go on: the loss is not finite, the model rejects the data, the checkpoint is damaged."""


class ReplicaError(ParsinetError, RuntimeError):
    """Processes that train one network together have come apart: their replicas differ, or one of them is gone."""


class StorageError(ParsinetError, RuntimeError):
    """A file or folder cannot be written or read: full disk, no permission, already taken."""


class ExportError(ParsinetError, RuntimeError):
    """A network cannot be written in another form, or what was written does not compute the same."""


class MissingExtraError(ParsinetError, RuntimeError):
    """An optional dependency is needed; the message names the install command."""


class ParsinetWarning(UserWarning):
    """Every warning of the package. Something was done as asked, and the caller should know what it brings: a target that was missed,
    optimizer state that starts afresh, gates that no file holds, a layer that torch cannot run safely."""


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the known word nearest to `word`, else the list of known words; starts with a space."""
    options = sorted(known)
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(options)}." if options else ""


SHOWN = 3
"""Entries of a list that a message names."""


def few(entries: Sequence[str], separator: str = ", ") -> str:
    """The first entries of a list, and the number of the others: "a, b, c and 4 more", or with "; " between them "a; b; c; and 4 more"."""
    more = f"{separator.replace(',', '')}and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return separator.join(entries[:SHOWN]) + more


def told(value: object) -> str:
    """What a value is, for an error that expected something else: "the class Linear", "a Tensor"."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
