"""Text for an output whose encoding lacks some of its letters."""

import codecs

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


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(INSTEAD.get(letter, "?") for letter in error.object[error.start : error.end]), error.end
