"""Text for an output whose encoding lacks some of its letters, or that is gone."""

import codecs
import os
import sys

INSTEAD = {"→": "->", "×": "x", "–": "-", "…": "..."}
"""What stands for a letter that is lacking; for others a question mark."""
NAME = "parsinet.lettering"


def handler() -> str:
    """The name of an error handler, for `str.encode` and streams, that writes as `INSTEAD` says: no arrow is worth the end of a run."""
    codecs.register_error(NAME, _replaced)
    return NAME


def lettered(text: str, encoding: str) -> str:
    """`text` as it can be written in `encoding`."""
    return text.encode(encoding, handler()).decode(encoding)


def silence() -> None:
    """Where standard output cannot be written to any more: what is still held back has a place to go at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(INSTEAD.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
