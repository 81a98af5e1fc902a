"""Tables of Markdown documents, and the numbers printed in their cells."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from parsinet.errors import DataError

NUMBER = re.compile(r"(?:(?<!\d)-)?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+)")
"""A hyphen behind a digit, as in the widths `784-300-100`, is no sign."""
END = "<!-- end -->"
BAR = re.compile(r"(?<!\\)\|")
Read = Callable[[Path], str]
"""From a document to its text."""


@dataclass(frozen=True)
class Table:
    """head: its column titles. body: its rows' cells, as they stand."""

    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


def read(document: Path) -> str:
    """Its text. Errors: DataError where it cannot be read."""
    try:
        return document.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{document.name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{document.name} is no text in UTF-8: byte {error.start} is none.") from None


def table_after(path: Path, words: str, read: Read = read) -> Table:
    """The table the first line that holds `words` belongs to, or else the next one behind it.

    Errors: DataError if there is no such line, or no table behind it.
    """
    lines = read(path).splitlines()
    return table_at(lines, table_lines(lines, words, path.name))


def table_at(lines: Sequence[str], places: range) -> Table:
    """The table that these of a document's lines are. Rows that lack cells get empty ones."""
    head, *rows = [_cells(lines[number]) for number in places]
    return Table(head, tuple(row + ("",) * (len(head) - len(row)) for row in rows[1:]))


def table_lines(lines: Sequence[str], words: str, document: str) -> range:
    """Which of a document's lines are those of the table that `table_after` finds."""
    first = next((number for number, line in enumerate(lines) if words in line), None)
    if first is None:
        raise DataError(f"{document} holds no line with {words!r}.")
    while first > 0 and lines[first].startswith("|") and lines[first - 1].startswith("|"):
        first -= 1
    begin = next((number for number in range(first, len(lines)) if lines[number].startswith("|")), None)
    if begin is None:
        raise DataError(f"{document} holds no table behind {words!r}.")
    end = next((number for number in range(begin, len(lines)) if not lines[number].startswith("|")), len(lines))
    return range(begin, end)


def cell_places(text: str, places: range) -> list[list[tuple[int, int]]]:
    """Where the cells of a table stand in a document: per line, from the first to behind the last character of each."""
    found, begin = [], 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        if number in places:
            bars = [begin + bar.start() for bar in BAR.finditer(line)]
            found.append([(left + 1, right) for left, right in pairwise(bars)])
        begin += len(line)
    return found


def with_cells(text: str, words: str, keys: Sequence[str], cells: Mapping[str, Mapping[str, str]], document: str) -> str:
    """A document with cells of a table replaced; all else keeps its bytes.

    words: as for `table_after`. keys: titles of the columns that name a row, whose cells, joined with ` | `, are the keys of `cells`;
    inside, column title → new cell. Errors: DataError if there is no such table or column.
    """
    lines = text.splitlines(keepends=True)
    places = table_lines(lines, words, document)
    head = _cells(lines[places[0]])
    named = [position(head, key, document) for key in keys]
    for number in places[2:]:
        row = _cells(lines[number])
        row += ("",) * (len(head) - len(row))
        for title, cell in cells.get(" | ".join(row[place] for place in named), {}).items():
            lines[number] = _with_cell(lines[number], position(head, title, document), cell)
    return "".join(lines)


def with_tables(text: str, tables: Mapping[str, str], document: str) -> str:
    """A document with the tables between `<!-- table NAME -->` and `<!-- end -->` replaced; all else keeps its bytes.

    tables: NAME → the table, Markdown. Errors: DataError where the document has no such place, or more than one.
    """
    for name, table in tables.items():
        mark = f"<!-- table {name} -->\n"
        before, *rest = text.split(mark)
        if len(rest) != 1 or END not in rest[0]:
            raise DataError(f"{document} has {len(rest)} places for the table {name!r} that end; it needs one.")
        text = f"{before}{mark}\n{table}\n\n{END}{rest[0].partition(END)[2]}"
    return text


def _with_cell(line: str, place: int, cell: str) -> str:
    parts = BAR.split(line)
    if place + 2 >= len(parts):
        raise DataError(f"A row has too few cells to be rewritten: {line.strip()}")
    old = parts[place + 1].strip()
    parts[place + 1] = parts[place + 1].replace(old, cell.replace("|", "\\|")) if old else f" {cell} "
    return "|".join(parts)


def numbers(cell: str) -> list[tuple[float, float]]:
    """Every number printed in a cell with half a unit of its last digit: `2.08 (1.90–2.17)`, `43,933`, `3.19e+11`."""
    return [(float(word.replace(",", "")), _half(word)) for word in NUMBER.findall(cell)]


def holds(shown: tuple[float, float], wanted: tuple[float, float | None]) -> bool:
    """Whether a printed number, with half a unit of its last digit, is the wanted one, with how far off it may be: None for that half."""
    (value, half), (true, tolerance) = shown, wanted
    return math.isfinite(value) and abs(value - true) <= (half * 1.0001 if tolerance is None else tolerance)


def _half(word: str) -> float:
    mantissa, _, exponent = word.replace(",", "").partition("e")
    digits = len(mantissa.partition(".")[2])
    return float(f"5e{int(exponent or 0) - digits - 1}")


def _cells(line: str) -> tuple[str, ...]:
    """Cells of one line; an escaped bar is part of its cell."""
    return tuple(cell.strip().replace("\\|", "|") for cell in BAR.split(line.strip())[1:-1])


def position(head: Sequence[str], title: str, document: str) -> int:
    """Where a column stands. Errors: DataError if it does not, or is not the only one of its title."""
    if list(head).count(title) != 1:
        raise DataError(f"{document}: {list(head).count(title)} columns are titled {title!r}; the table has {', '.join(head)}.")
    return list(head).index(title)
