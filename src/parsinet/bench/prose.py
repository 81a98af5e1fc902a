"""Numbers in the running text of Markdown documents that look measured, and where sentences stand in it."""

import re
from collections.abc import Iterable, Iterator

from parsinet.bench.documents import NUMBER

BRACED = re.compile(r"\{([^{}]*)\}")
ASIDE = re.compile(
    r"^```.*?^```[^\n]*$"  # code
    r"|<!--.*?-->"
    r"|^(?:#|    )[^\n]*"  # headings, indented code
    r"|^\|[^\n]*\n\|[-| :]+$"  # heads of tables
    r"|`+[^`]*`+"
    r"|(?<=\])\([^)\n]*\)"  # targets of links
    r"|(?:arXiv )?\b\d{4}\.\d{5}\b",
    re.MULTILINE | re.DOTALL,
)
WORD = rf"(?<![\w.,/:^§-])(?:{NUMBER.pattern})(?![\w^]|[.,]\d)"
UNIT = r"\s?(?:[%‰]|×(?!\s?\d)|(?:points?|nats|seconds?|minutes?|hours?|times|m?s|µs|[kMG]i?B|of\s\d+)\b)"
LINK = r"(?:,\s|,?\s(?:and|to|or|against|instead\sof)\s|–|\s±\s)"
WITH_UNIT = re.compile(rf"{WORD}(?:{LINK}{WORD})*(?={UNIT})")
EXACT = re.compile(rf"{WORD}|(?<![\w.])\d+k\b")


def measured(text: str, tables: Iterable[range] = ()) -> Iterator[tuple[int, int]]:
    """Where numbers stand that a reader takes for measured ones: with a decimal point, with thousands set apart, before a unit (`%`,
    points, nats, seconds, times, `k`, `48 of 50`), or listed before such a one. Code, headings, heads of tables and link targets are no
    running text, and neither are the lines of these tables."""
    lines = text.splitlines(keepends=True)
    for number in {number for table in tables for number in table}:
        lines[number] = _blank(lines[number])
    running = ASIDE.sub(lambda aside: _blank(aside[0]), "".join(lines))
    listed = [chain.span() for chain in WITH_UNIT.finditer(running)]
    for found in EXACT.finditer(running):
        if re.search(r"[.,k]", found[0]) or any(first <= found.start() < last for first, last in listed):
            yield found.span()


def _blank(text: str) -> str:
    """As long as it was, without words."""
    return re.sub(r"\S", " ", text)


def standing(says: str, text: str) -> list[list[tuple[int, int]]]:
    """Every place where a document says these words, line breaks aside: there the places of the numbers in braces, in order."""
    parts = BRACED.split(says)
    words = [rf"({re.escape(part)})" if place % 2 else _words(part) for place, part in enumerate(parts)]
    found = re.finditer(rf"(?<![\w.]){''.join(words)}(?!\w)", text)
    return [[match.span(number) for number in range(1, len(parts) // 2 + 1)] for match in found]


def _words(part: str) -> str:
    """A pattern for words with any white space between them."""
    return re.sub(r"(?:\\?\s)+", r"\\s+", re.escape(part))
