"""Claims made true again: printed numbers that the records no longer say are replaced, in the claims file and in the documents."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from parsinet.bench.cells import drafted, expected, selector
from parsinet.bench.claims import Claim
from parsinet.bench.documents import NUMBER, Read, holds, numbers, with_cells, with_tables
from parsinet.bench.page import PAGE
from parsinet.bench.page import text as page_text
from parsinet.bench.places import Where
from parsinet.bench.prose import BRACED, standing
from parsinet.bench.reading import load_claims
from parsinet.bench.running import stored as records
from parsinet.bench.sentences import Page, bare, scale, shown
from parsinet.bench.suite import load
from parsinet.bench.texts import Texts
from parsinet.errors import DataError

Cells = Mapping[str, Mapping[str, str]]


def rewrite(path: Path) -> str:
    """Put the records' numbers where a claim or a sentence prints others, in the form in which they stood, and say how many.

    A cell without a number, words around numbers, and numbers that still hold stay as they are. What a record no longer holds stays too,
    and so does a number in a sentence whose sign changes, for `check` to name: the words around it may be wrong then. New rows of a table
    are written by hand.

    Errors: those of `check` for files that cannot be used; DataError if a document has no such table. Nothing is written then.
    """
    stored, texts = load_claims(path), Texts()
    for suite, out in stored.reports.items():
        if not (events := records(out)):
            raise DataError(f"{out.name} holds no records of {suite}, which {PAGE} is made of. Put them back, or take it out of `reports`.")
        texts.put(out / PAGE, page_text(load(suite), events))
    changes = [_changes(claim, path.parent) for claim in stored.claims]
    texts.put(path, _claims_with(texts.read(path), changes))
    for claim, cells in zip(stored.claims, changes, strict=True):
        for document in map(path.parent.joinpath, claim.documents if cells else ()):
            texts.put(document, with_cells(texts.read(document), claim.after, list(claim.match), cells, document.name))
    words = _reword(stored.pages, path.parent, texts)
    texts.write()
    count = sum(len(row) for cells in changes for row in cells.values())
    return f"{count:,} cells of {sum(1 for cells in changes if cells)} tables and {words:,} numbers of running text were rewritten."


def _reword(pages: Mapping[Path, Page], folder: Path, texts: Texts) -> int:
    """Put the numbers of tables and records into the sentences of all documents, and into the files that hold them; how many changed."""
    edits: dict[Path, dict[tuple[int, int], str]] = {}
    count = 0
    for file, page in pages.items():
        document, said = (folder / page.document).resolve(), {}
        for place, sentence in enumerate(page.sentences):
            new = [_true(word, place, page, folder, texts.read) for word, place in zip(sentence.printed, sentence.places, strict=False)]
            if new == sentence.printed or len(new) != len(sentence.printed):
                continue
            found = standing(sentence.says, texts.read(document))
            for spans in found:
                edits.setdefault(document, {}).update(zip(spans, new, strict=True))
            if found:
                said[place] = _braced(sentence.says, new)
                count += sum(1 for old, word in zip(sentence.printed, new, strict=True) if old != word)
        if said:
            texts.put(file, _said(texts.read(file), said))
    for document, places in edits.items():
        texts.put(document, _replaced(texts.read(document), places))
    return count


def _replaced(text: str, edits: Mapping[tuple[int, int], str]) -> str:
    """A text with other words at these places."""
    for (start, end), word in sorted(edits.items(), reverse=True):
        text = text[:start] + word + text[end:]
    return text


def _braced(says: str, words: Sequence[str]) -> str:
    """A sentence with other numbers in its braces."""
    new = iter(words)
    return BRACED.sub(lambda _: f"{{{next(new)}}}", says)


def _true(word: str, place: Where | str, page: Page, folder: Path, read: Read) -> str:
    """A number of a sentence as it should be; what cannot be computed stays, and what would change its sign, for `check` to name."""
    try:
        value = None if isinstance(place, str) else place.value(folder, page.tables, read)
        if value is None or holds(shown(word), (value, None)) or (value < 0) != word.startswith("-"):
            return word
    except (DataError, ValueError):
        return word
    return _like(bare(word), value / scale(word)) + word[len(bare(word)) :]


def _said(text: str, edits: Mapping[int, str]) -> str:
    """A file of sentences with some of them replaced; all else keeps its bytes."""
    sentences = _child(yaml.compose(text, Loader=yaml.SafeLoader), "sentences").value
    return _replaced(text, {_span(_child(sentences[place], "says"), text): _quoted(says) for place, says in edits.items()})


def _span(node: yaml.Node, text: str) -> tuple[int, int]:
    """Where a value stands; the mark behind a block of text is that of the next line."""
    return node.start_mark.index, len(text[: node.end_mark.index].rstrip())


def put_tables(path: Path, document: Path, tables: Mapping[str, str]) -> None:
    """Put tables, Markdown by name, between their marks in a document, and the claims about it alone in line: see `redraft`.

    path: the claims file, in a folder around the document. Errors: DataError where the document has no such place; those of `redraft`.
    Nothing is written then.
    """
    texts = Texts()
    texts.put(document, with_tables(texts.read(document), tables, document.name))
    _redraft(path, document.relative_to(path.parent).as_posix(), texts)


def redraft(path: Path, document: str) -> None:
    """Give every claim about this document alone the cells that it prints, after its tables were written anew from the records.

    Rows come and go with those of the table (a `partial` claim gets no new ones); all else in the claims file keeps its bytes. `check`
    then holds both against the records.

    Errors: those of `load_claims`; DataError if the document has no such table.
    """
    _redraft(path, document, Texts())


def _redraft(path: Path, document: str, texts: Texts) -> None:
    claims, text = load_claims(path).claims, texts.read(path)
    nodes = _child(yaml.compose(text, Loader=yaml.SafeLoader), "claims").value
    for claim, node in reversed(list(zip(claims, nodes, strict=True))):
        if claim.documents == (document,):
            cells = {row: told for row, told in drafted(claim, path.parent, texts.read).items() if row in claim.cells or not claim.partial}
            key, value = _entry(node, "cells")
            text = f"{text[: key.end_mark.index]}:{_block(cells, node.start_mark.column + 2)}{text[_end(value) :]}"
    texts.put(path, text)
    texts.write()


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
    return re.sub(r"^(-?)0\.", r"\1.", text) if word.lstrip("-").startswith(".") else text


def _claims_with(text: str, changes: Sequence[Cells]) -> str:
    """The claims file with cells replaced where they stand; all else, comments too, keeps its bytes."""
    claims = _child(yaml.compose(text, Loader=yaml.SafeLoader), "claims")
    edits: dict[tuple[int, int], str] = {}
    for claim, cells in zip(claims.value, changes, strict=True):
        for row, new in cells.items():
            for column, cell in new.items():
                node = _child(_child(_child(claim, "cells"), row), column)
                edits[_span(node, text)] = _quoted(cell)
    return _replaced(text, edits)


def _child(node: yaml.Node | None, key: str) -> yaml.Node:
    return _entry(node, key)[1]


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node]:
    """A key of a mapping and its value."""
    assert isinstance(node, yaml.MappingNode)
    found: tuple[yaml.Node, yaml.Node] | None = next((entry for entry in node.value if entry[0].value == key), None)
    if found is None:
        raise DataError(f"No {key!r} stands where line {node.start_mark.line + 1} begins; what YAML merges in cannot be rewritten.")
    return found
