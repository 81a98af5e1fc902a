"""A text for the language examples: Shakespeare from $PARSINET_DATA/tinyshakespeare/input.txt, else sentences made here."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import parsinet as pn

WHO = ("the cat", "a small dog", "my brother", "the old king", "nobody", "every sailor", "the baker", "her sister")
DOES = ("sees", "follows", "forgets", "paints", "remembers", "sells", "hides from", "sings to")
WHEN = ("at night", "in the morning", "without a word", "twice a day", "by the river", "for the last time")


def load(characters: int, block: int) -> pn.data.Dataset:
    """The first `characters` of the text, cut into windows of `block`; the next character is to be predicted."""
    file = Path(os.environ.get("PARSINET_DATA", ""), "tinyshakespeare", "input.txt")
    text = file.read_text(encoding="utf-8") if file.is_file() else made(characters)
    print(f"text: {file if file.is_file() else 'made up'}")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "text.txt")
        part.write_text(text[:characters], encoding="utf-8")
        return pn.data.load(part, block=block)


def made(characters: int) -> str:
    """Random sentences of one form: easy to learn up to the choice of words."""
    choose = random.Random(0).choice
    sentences = []
    while sum(map(len, sentences)) < characters:
        sentences.append(f"{choose(WHO)} {choose(DOES)} {choose(WHO)} {choose(WHEN)}.\n".capitalize())
    return "".join(sentences)
