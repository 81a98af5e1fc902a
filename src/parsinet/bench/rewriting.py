"""Claims made true again: printed numbers that the records no longer say are replaced, in the claims file and in the documents."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from parsinet import files
from parsinet.bench.claims import Claim, drafted, expected, load_claims, selector
from parsinet.bench.documents import NUMBER, holds, numbers, with_cells, with_tables
from parsinet.bench.page import PAGE
from parsinet.bench.page import text as page_text
from parsinet.bench.places import Where
from parsinet.bench.prose import BRACED, standing
from parsinet.bench.running import stored as records
from parsinet.bench.sentences import Page, shown
from parsinet.bench.suite import load
from parsinet.errors import DataError

Cells = Mapping[str, Mapping[str, str]]


def rewrite(path: Path) -> str:
    """Put the records' numbers where a claim or a sentence prints others, in the form in which they stood, and say how many.

    A cell without a number, words around numbers, and numbers that still hold stay as they are. What a record no longer holds stays too,
    for `check` to name. New rows of a table are written by hand.

    Errors: those of `check` for files that cannot be used; DataError if a document has no such table. Nothing is written then.
    """
    stored = load_claims(path)
    claims = stored.claims
    for suite, out in stored.reports.items():
        files.write_text(out / PAGE, page_text(load(suite), records(out)))
    changes = [_changes(claim, path.parent) for claim in claims]
    written = {path: _claims_with(path.read_text(encoding="utf-8"), changes)}
    for claim, cells in zip(claims, changes, strict=True):
        for document in map(path.parent.joinpath, claim.documents if cells else ()):
            text = written.get(document) or document.read_text(encoding="utf-8")
            written[document] = with_cells(text, claim.after, list(claim.match), cells, document.name)
    for target, text in written.items():
        if text != target.read_text(encoding="utf-8"):
            files.write_text(target, text)
    count = sum(len(row) for cells in changes for row in cells.values())
    words = sum(_reword(file, page, path.parent) for file, page in load_claims(path).pages.items())
    return f"{count:,} cells of {sum(1 for cells in changes if cells)} tables and {words:,} numbers of running text were rewritten."


def _reword(file: Path, page: Page, folder: Path) -> int:
    """Put the numbers of tables and records into the sentences of a document, and into the file that holds them; how many changed."""
    document, edits, count = folder / page.document, {}, 0
    text, stored = document.read_text(encoding="utf-8"), file.read_text(encoding="utf-8")
    for place, sentence in enumerate(page.sentences):
        new = [_true(word, place, page, folder) for word, place in zip(sentence.printed, sentence.places, strict=False)]
        if new == sentence.printed or len(new) != len(sentence.printed):
            continue
        for spans in reversed(standing(sentence.says, text)):
            for (start, end), word in reversed(list(zip(spans, new, strict=True))):
                text = text[:start] + word + text[end:]
        edits[place] = _braced(sentence.says, new)
        count += sum(1 for old, word in zip(sentence.printed, new, strict=True) if old != word)
    if edits:
        files.write_text(document, text)
        files.write_text(file, _said(stored, edits))
    return count


def _braced(says: str, words: Sequence[str]) -> str:
    """A sentence with other numbers in its braces."""
    new = iter(words)
    return BRACED.sub(lambda _: f"{{{next(new)}}}", says)


def _true(word: str, place: Where | str, page: Page, folder: Path) -> str:
    """A number of a sentence as it should be; what cannot be computed stays, for `check` to name."""
    try:
        value = None if isinstance(place, str) else place.value(folder, page.tables)
        if value is None or holds(shown(word), (value, None)):
            return word
    except (DataError, ValueError):
        return word
    return f"{_like(word[:-1], value / 1000)}k" if word.endswith("k") else _like(word, value)


def _said(text: str, edits: Mapping[int, str]) -> str:
    """A file of sentences with some of them replaced; all else keeps its bytes."""
    sentences = _child(yaml.compose(text, Loader=yaml.SafeLoader), "sentences").value
    for place, says in sorted(edits.items(), reverse=True):
        node = _child(sentences[place], "says")
        text = text[: node.start_mark.index] + _quoted(says) + text[node.end_mark.index :]
    return text


def put_tables(path: Path, document: Path, tables: Mapping[str, str]) -> None:
    """Put tables, Markdown by name, between their marks in a document, and the claims about it alone in line: see `redraft`.

    path: the claims file, in a folder around the document. Errors: DataError where the document has no such place; those of `redraft`.
    """
    files.write_text(document, with_tables(document.read_text(encoding="utf-8"), tables, document.name))
    redraft(path, document.relative_to(path.parent).as_posix())


def redraft(path: Path, document: str) -> None:
    """Give every claim about this document alone the cells that it prints, after its tables were written anew from the records.

    Rows come and go with those of the table (a `partial` claim gets no new ones); all else in the claims file keeps its bytes. `check`
    then holds both against the records.

    Errors: those of `load_claims`; DataError if the document has no such table.
    """
    claims, text = load_claims(path).claims, path.read_text(encoding="utf-8")
    nodes = _child(yaml.compose(text, Loader=yaml.SafeLoader), "claims").value
    for claim, node in reversed(list(zip(claims, nodes, strict=True))):
        if claim.documents == (document,):
            cells = {row: told for row, told in drafted(claim, path.parent).items() if row in claim.cells or not claim.partial}
            key, value = _entry(node, "cells")
            text = f"{text[: key.end_mark.index]}:{_block(cells, node.start_mark.column + 2)}{text[_end(value) :]}"
    if text != path.read_text(encoding="utf-8"):
        files.write_text(path, text)


def _block(cells: Cells, indent: int) -> str:
    """A mapping of YAML, a line per row; the text behind the colon of its key."""
    rows = [
        f"\n{' ' * indent}{_quoted(row)}: {{{', '.join(f'{_quoted(key)}: {_quoted(cell)}' for key, cell in told.items())}}}"
        for row, told in cells.items()
    ]
    return "".join(rows) if rows else " {}"


def _quoted(words: str) -> str:
    """A string of YAML."""
    return json.dumps(words, ensure_ascii=False)


def _end(node: yaml.Node) -> int:
    """Where a value's last character stands; the end mark of a block is where the next one begins."""
    block = isinstance(node, yaml.MappingNode) and not node.flow_style
    return _end(node.value[-1][1]) if block else node.end_mark.index


def _changes(claim: Claim, folder: Path) -> dict[str, dict[str, str]]:
    """The cells of a claim that no longer hold, with what they should print."""
    select, found = selector(claim, folder), {}
    for row, cells in claim.cells.items():
        new = {}
        for column, printed in cells.items():
            try:
                text = restated(printed, expected(claim, row, column, select))
            except DataError:
                continue
            if text != printed:
                new[column] = text
        if new:
            found[row] = new
    return found


def restated(printed: str, wanted: Sequence[tuple[float, float | None]]) -> str:
    """A cell with the numbers that do not hold replaced, digits and form as they were: `2.08 (1.90–2.17)`, `43,933`, `3.19e+11`, `.05`."""
    shown, places = numbers(printed), iter(range(len(printed)))

    def put(match: re.Match[str]) -> str:
        place = next(places)
        if place >= len(wanted) or holds(shown[place], wanted[place]):
            return match[0]
        return _like(match[0], wanted[place][0])

    return NUMBER.sub(put, printed)


def _like(word: str, value: float) -> str:
    mantissa, exponent, power = word.partition("e")
    digits = len(mantissa.partition(".")[2])
    if exponent:
        text = f"{value:.{digits}e}"
        return text if len(power.lstrip("+-")) > 1 else re.sub(r"e([+-])0", r"e\1", text)
    text = f"{value:,.{digits}f}" if "," in word else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if word.lstrip("-").startswith(".") else text


def _claims_with(text: str, changes: Sequence[Cells]) -> str:
    """The claims file with cells replaced where they stand; all else, comments too, keeps its bytes."""
    claims = _child(yaml.compose(text, Loader=yaml.SafeLoader), "claims")
    edits: list[tuple[int, int, str]] = []
    for claim, cells in zip(claims.value, changes, strict=True):
        for row, new in cells.items():
            for column, cell in new.items():
                node = _child(_child(_child(claim, "cells"), row), column)
                edits.append((node.start_mark.index, node.end_mark.index, _quoted(cell)))
    for start, end, cell in sorted(edits, reverse=True):
        text = text[:start] + cell + text[end:]
    return text


def _child(node: yaml.Node | None, key: str) -> yaml.Node:
    return _entry(node, key)[1]


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node]:
    """A key of a mapping and its value."""
    assert isinstance(node, yaml.MappingNode)
    found: tuple[yaml.Node, yaml.Node] = next(entry for entry in node.value if entry[0].value == key)
    return found
