"""The fenced blocks of a page, with what the page says about running them.

A comment on the line above a fence speaks of that block:

    <!-- test: after NAME, NAME -->      what setups.py calls NAME happens first: names that the reader is assumed to have
    <!-- test: fragment, REASON -->      it is compiled, not run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!-- test: (?P<words>.+?) -->\n\Z")
INLINE = re.compile(r"(?<!`)`(?P<code>(?:parsinet|torchrun) [^`]+)`(?!`)")
COMMAND = re.compile(r"^(?:\$ )?(?:torchrun .*?-m )?parsinet (?P<rest>.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language ("" if none is named), its text, what runs before it, why it does not run."""

    line: int
    language: str
    code: str
    after: tuple[str, ...] = ()
    fragment: str = ""


class MarkerError(ValueError):
    """A page says something about a block that means nothing."""


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page, in order. MarkerError for a comment that is none of the two above, or stands above no block."""
    found = [_block(text, match) for match in FENCE.finditer(text)]
    told = sum(bool(block.after or block.fragment) for block in found)
    if text.count("<!-- test:") != told:
        raise MarkerError(f"{text.count('<!-- test:')} comments for {told} blocks: a comment stands right above its fence")
    return found


def _block(text: str, match: re.Match[str]) -> Block:
    comment = COMMENT.search(text, 0, match.start())
    words = comment["words"] if comment else ""
    kind, _, rest = words.partition(" ")
    line = text.count("\n", 0, match.start()) + 1
    if words and (kind, bool(rest)) not in (("after", True), ("fragment,", True)):
        raise MarkerError(f"line {line}: {words!r} is neither `after NAME` nor `fragment, REASON`")
    after = tuple(name.strip() for name in rest.split(",")) if kind == "after" else ()
    return Block(line, match["language"], match["code"], after, rest if kind == "fragment," else "")


def commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """Every `parsinet …` a page shows, in a block without language or in the text: its line, and the words behind `parsinet`.

    Lines that end in a backslash are joined; a comment behind `  #` is left out, and so are commands with an ellipsis in them,
    and in the text those that only name a command or an option (`parsinet train --resume`).
    """
    for block in blocks(text):
        if block.language in ("", "bash", "sh"):
            for line in block.code.replace("\\\n", " ").splitlines():
                yield from _command(line.strip(), block.line)
    for match in INLINE.finditer(FENCE.sub("", text)):
        for number, words in _command(" ".join(match["code"].split()), 0):
            if len(words) > 1 and not words[-1].startswith("--"):
                yield number, words


def _command(line: str, number: int) -> Iterator[tuple[int, list[str]]]:
    found = COMMAND.match(line)
    if found and "…" not in line:
        yield number, shlex.split(found["rest"], comments=True)
