"""Text in encodings that lack letters of it."""

import pytest

from parsinet.lettering import handler, lettered


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "fc1 300→20, 1.2×, θ … 5–7"),
        ("ascii", "fc1 300->20, 1.2x, ? ... 5-7"),
        ("latin-1", "fc1 300->20, 1.2×, ? ... 5-7"),
    ],
)
def test_what_is_lacking_is_replaced(encoding: str, written: str) -> None:
    assert lettered("fc1 300→20, 1.2×, θ … 5–7", encoding) == written


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", handler())
