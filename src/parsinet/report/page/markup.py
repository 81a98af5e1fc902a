"""HTML from nested calls: every string is escaped unless it came out of `tag`."""

import html
import json
from collections.abc import Iterable
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | bool | None) -> Markup:
    """An element. Attributes: a trailing `_` is dropped, `_` becomes `-`; True writes the bare name, None and False leave it out."""
    written = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(visible(child)) for child in children))


def visible(text: str) -> str:
    """The text with control characters, and halves of surrogate pairs, as the mark for what cannot be shown."""
    return "".join("�" if (ord(letter) < 32 and letter not in "\t\n") or 0xD800 <= ord(letter) <= 0xDFFF else letter for letter in text)


def embedded(value: Any) -> Markup:
    """JSON that may stand inside a <script> element: no `<`, `>` or `&`, so that no string in it can end the element or open a comment.

    Raises ValueError for numbers JSON lacks.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _attribute(name: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(visible(value))}"'
