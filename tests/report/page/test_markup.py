"""Whatever a record says stays text: in elements, in attributes, in the numbers inside the script element."""

import html.parser
import json

import pytest

from parsinet.report.page.markup import Markup, embedded, joined, tag

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>",
    '" onmouseover="alert(1)',
    "' & &amp; &lt;",
    "${alert(1)} $title {{x}}",
    "\u2028\u2029",
    "naïve – 图 𝔘",
]


class Heard(html.parser.HTMLParser):
    """Start tags, attribute values and text, as a browser would take them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.values += [value for _, value in attributes]

    def handle_data(self, text: str) -> None:
        self.text += text


@pytest.mark.parametrize("words", HOSTILE)
def test_text_and_attributes_come_back_as_they_went_in(words: str) -> None:
    heard = Heard(tag("p", words, aria_label=words))
    assert (heard.tags, heard.values, heard.text) == (["p"], [words], words)


def test_the_check_objects_to_text_that_is_not_escaped() -> None:
    assert Heard(tag("p", Markup(HOSTILE[0]))).tags == ["p", "script"]


@pytest.mark.parametrize("words", HOSTILE)
def test_embedded_numbers_end_no_script_and_come_back(words: str) -> None:
    text = embedded({words: [words, 1.5, None]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {words: [words, 1.5, None]}


def test_numbers_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded({"a": float("nan")})


def test_control_characters_and_halves_of_pairs_are_marked() -> None:
    assert tag("p", "a\x00b\x1b[2J\ud800c\td") == "<p>a�b�[2J�c\td</p>"
    tag("p", "\udfff", title="\udfff").encode()


def test_attributes_that_are_true_or_absent() -> None:
    assert tag("div", class_="a", data_run="1", hidden=True, role=None, draggable=False) == '<div class="a" data-run="1" hidden></div>'
    assert joined(["<", Markup("<b>")]) == "&lt;<b>"
