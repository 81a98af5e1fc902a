"""A text file: windows, targets and parts lie where they should; unusable files are refused."""

import itertools
from pathlib import Path

import pytest

from parsinet.data import load
from parsinet.errors import DataError

TEXT = "".join(chr(ord("a") + (at * at) % 23) + ("é" if at % 5 == 0 else "") for at in range(500))


def test_windows_are_the_text(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(TEXT, encoding="utf-8")
    data = load(str(path), validation=0.25, block=7)
    assert (data.name, data.task, data.input_shape, data.mean) == ("story", "language", (7,), ())
    assert data.classes == tuple(sorted(set(TEXT)))
    cut = [0, 405, 540, 600]
    assert data.validation is not None
    for split, (start, end) in zip((data.train, data.validation, data.test), itertools.pairwise(cut), strict=True):
        part = TEXT[start:end]
        assert len(split) == (len(part) - 1) // 7
        read = "".join(data.classes[number] for number in split.inputs.flatten())
        following = "".join(data.classes[number] for number in split.targets.flatten())
        assert read == part[: len(read)]
        assert following == part[1 : len(read) + 1]


def test_line_ends_are_characters(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(b"ab\r\n" * 50)
    assert load(str(path), block=4).classes == ("\n", "\r", "a", "b")
    assert load(str(path), block=4).validation is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least two different characters to predict, got 0"),
        (b"aaaaaaa", "at least two different characters to predict, got 1"),
        (b"abcd\xff\xfe", "not UTF-8 text: byte 4 is 0xff"),
        (b"abc" * 20, r"the test part has 6 characters, fewer than block \+ 1 = 9; use a smaller block"),
    ],
)
def test_unusable_text(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path), block=8)
    assert str(path) in str(caught.value)


def test_validation_part_too_short(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(DataError, match="the validation part has 5 characters"):
        load(str(path), block=8, validation=0.01)
