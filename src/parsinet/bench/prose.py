"""Numbers in the running text of Markdown documents that look measured, and where sentences stand in it."""

import re
from collections.abc import Iterable, Iterator

from parsinet.bench.documents import NUMBER

BRACED = re.compile(r"\{([^{}]*)\}")
ASIDE = re.compile(
    r"^[ \t]*(?P<fence>```+|~~~+)[^\n]*\n.*?^[ \t]*(?P=fence)[^\n]*$"  # code
    r"|<!--.*?-->"
    r"|</?[A-Za-z][^>\n]*>"  # HTML, addresses
    r"|\bhttps?://\S+"
    r"|^#[^\n]*"  # headings
    r"|^\|[^\n]*\n\|[| :]*-[-| :]*$"  # heads of tables
    r"|`+[^`]*`+"
    r"|(?<=\])\([^)\n]*\)"  # targets of links
    r"|(?:arXiv )?\b\d{4}\.\d{5}\b",
    re.MULTILINE | re.DOTALL,
)
HOLDS_INDENTED = re.compile(r" {0,3}(?:[-*+]\s|\d+[.)]\s|\[\^|!!!|\?\?\?)")
"""Beginnings of what goes on in indented lines: items of lists, footnotes, boxes."""
SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
"""Behind a number, without a space: `43k`."""
MARKS = r"[*_]{0,3}"
"""Bold and italic."""
BEGIN = r"(?<![^\W_])(?<![^\W_]_)(?<![.,:^§-])(?<!(?<!\d)/)"
NAMES = r"%|‰|(?:percentage\s+)?points?|percent|per\s+cent|nats|seconds?|minutes?|hours?|days?|times|fold|[mµμn]?s|min|h|[kMGT]?i?B"
END = rf"(?=(?:[{''.join(SUFFIXES)}x]|{NAMES})\b|(?!\^|[^\W_]|_[^\W_]|[.,]\d))"
WORD = rf"{BEGIN}(?:{NUMBER.pattern}){END}"
UNIT = rf"{MARKS}[\s-]*{MARKS}(?:[%‰]|×(?!\s?\d)|(?:{NAMES}|of\s+\d+)\b(?!\())|[{''.join(SUFFIXES)}x]\b"
LINK = rf"{MARKS}(?:,\s+|,?\s+(?:and|to|or|against|instead\s+of|versus|than)\s+|\s?[–±]\s?|[/-]){MARKS}"
WITH_UNIT = re.compile(rf"{WORD}(?:{LINK}(?:{NUMBER.pattern}){END})*(?={UNIT})")
EXACT = re.compile(WORD)
SUFFIX = re.compile(rf"[{''.join(SUFFIXES)}]\b")


def measured(text: str, cells: Iterable[tuple[int, int]] = ()) -> Iterator[tuple[int, int]]:
    """Where numbers stand that a reader takes for measured ones: with a decimal point, with thousands set apart, before a unit (`%`,
    points, nats, seconds, times, `k`, `48 of 50`), or listed before such a one. Code, headings, heads of tables and addresses are no
    running text, and neither is what stands in these cells of tables, given by their places."""
    running = _without_indented(ASIDE.sub(lambda aside: _blank(aside[0]), _without(text, cells)))
    found = {match.span() for match in EXACT.finditer(running) if re.search(r"[.,]", match[0])}
    for chain in WITH_UNIT.finditer(running):
        found |= {match.span() for match in NUMBER.finditer(running, *chain.span())}
    for first, last in sorted(found):
        yield first, last + bool(SUFFIX.match(running, last))


def _without(text: str, places: Iterable[tuple[int, int]]) -> str:
    """The text with these places blank."""
    parts, last = list[str](), 0
    for first, end in sorted(set(places)):
        parts += [text[last:first], _blank(text[first:end])]
        last = end
    return "".join([*parts, text[last:]])


def _without_indented(text: str) -> str:
    """The text without blocks of code that are set off by spaces."""
    lines, outer, code = text.splitlines(keepends=True), "", True
    for number, line in enumerate(lines):
        indented = line.startswith(("    ", "\t"))
        if indented and code and not HOLDS_INDENTED.match(outer):
            lines[number] = _blank(line)
        elif line.strip():
            outer, code = (outer if indented else line), False
        else:
            code = True
    return "".join(lines)


def _blank(text: str) -> str:
    """As long as it was, without words."""
    return re.sub(r"\S", " ", text)


def standing(says: str, text: str) -> list[list[tuple[int, int]]]:
    """Every place where a document says these words, line breaks aside: there the places of the numbers in braces, in order."""
    parts = BRACED.split(says)
    words = [rf"({re.escape(part)})" if place % 2 else _words(part) for place, part in enumerate(parts)]
    sign = "" if parts[0] else r"(?<![-−])(?<!\d,)"
    pattern = re.compile(rf"(?<![\w.]){sign}{''.join(words)}(?!\w|[.,]\d)")
    first = "".join(parts).split(maxsplit=1)[:1]
    found = (pattern.match(text, start) for start in _starts(text, "".join(first)))
    return [[match.span(number) for number in range(1, len(parts) // 2 + 1)] for match in found if match]


def _starts(text: str, word: str) -> Iterator[int]:
    """Where a word begins in a text: a pattern that looks behind first would try every place."""
    start = text.find(word)
    while start >= 0:
        yield start
        start = text.find(word, start + 1)


def _words(part: str) -> str:
    """A pattern for words with any white space between them."""
    return re.sub(r"(?:\\?\s)+", r"\\s+", re.escape(part))
