"""Whole pages: well formed, complete in themselves, true for every kind of record, and with the record's numbers in their tables."""

import html.parser
import json
import re
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from parsinet.report import read
from parsinet.report.page import page, waiting
from parsinet.report.page.build import SCRIPTS

Make = Callable[..., Path]
VOID = {"meta", "link", "img", "br", "input", "hr"}
HOSTILE = "<script>alert('x')</script>"


class Outline(html.parser.HTMLParser):
    """Elements as they nest: what is not closed or closed in the wrong order, tables cell by cell, ids, scripts, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.events: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.text: dict[str, str] = {}
        self.feed(source)
        self.close()
        self.faults += [f"{name} is not closed" for name in self.open]
        self.faults += [f"id {name} twice" for name, times in Counter(self.ids).items() if times > 1]

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        if name not in VOID:
            self.open.append(name)
        self.ids += [value for key, value in attributes if key == "id" and value]
        self.faults += [f"{key} twice in {name}" for key, times in Counter(key for key, _ in attributes).items() if times > 1]
        self.events += [key for key, _ in attributes if key.startswith("on")]
        self.addresses += [value or "" for key, value in attributes if key in ("src", "href", "action", "srcset", "data", "poster")]
        self.scripts += name == "script"
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, name: str) -> None:
        if not self.open or self.open.pop() != name:
            self.faults.append(f"</{name}> closes nothing")

    def handle_data(self, text: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + text
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += ("\n" if self.open[-1] == "small" else "") + text


def outside(source: str) -> list[str]:
    """Addresses a browser would fetch, or could be led to: in attributes, in the style, in the script, anywhere in full."""
    outline = Outline(source)
    inner = outline.text.get("style", "") + outline.text.get("script", "")
    found = [*outline.addresses, *re.findall(r"url\(([^)]*)\)", inner), *re.findall(r"@import[^;]*", inner)]
    bare = re.findall(r"https?://[^\s\"'<]+", source)
    return [one for one in found if not one.startswith(("#", "data:"))] + [one for one in bare if one != "http://www.w3.org/2000/svg"]


def of(*folders: Path, live: bool = False) -> str:
    return page([read(folder) for folder in folders], live=live)


def check(source: str) -> Outline:
    """Well formed, nothing outside, no handler in an attribute, only the two scripts of the template."""
    outline = Outline(source)
    assert (outline.faults, outside(source), outline.events, outline.scripts) == ([], [], [], 2)
    source.encode()
    return outline


@pytest.mark.parametrize("name", ["dense", "gates", "deep"])
def test_pages_of_finished_runs(name: str, request: pytest.FixtureRequest) -> None:
    source = of(request.getfixturevalue(name))
    check(source)
    assert len(source) < 500_000


def test_every_record_makes_a_page(make: Make, case: str) -> None:
    check(of(make(case)))
    check(of(make(case, "other"), live=True))


def test_the_checks_object() -> None:
    assert Outline("<div><p></div></p>").faults == ["</div> closes nothing", "</p> closes nothing"]
    assert Outline('<p id="a" id="b"></p><b id="a"></b><i>').faults == ["id twice in p", "i is not closed", "id a twice"]
    assert outside('<script src="x.js"></script>') == ["x.js"]
    assert outside("<style>body { background: url(a.png) } @import 'b'</style>") == ["a.png", "@import 'b'"]
    assert outside("fetch('https://example.org/x')") == ["https://example.org/x"]
    assert outside('<a href="#main"></a><link href="data:,">') == []


def test_a_hostile_record_stays_text(make: Make) -> None:
    outline = check(of(make("hostile", "<img src=x onerror=alert(1)>")))
    assert "<img src=x onerror=alert(1)>" in outline.text["p"]
    assert HOSTILE in outline.text["h1"]
    data = json.loads(data_of(of(make("hostile"))))
    assert data["runs"][0]["network"]["groups"][0] == {"name": HOSTILE, "size": 8, "fixed": HOSTILE}


def data_of(source: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', source, re.DOTALL)
    assert found is not None
    return found[1]


SHRUNK = "from 100 to 40 parameters (40.0 %) and 33.3 % of the MACs"
TRUE = {
    "whole": f"gates took mlp on digits {SHRUNK} at a test error of 12.50 %.",
    "no epochs": "No epoch of the run has ended yet.",
    "unfinished": "The run has done 2 of 4 epochs, and its record has no end yet.",
    "interrupted": "The run was interrupted after 1 of 4 epochs.",
    "failed": f"The run failed after 1 of 4 epochs: the loss is nan {HOSTILE}.",
    "torn": "The run has done 1 of 4 epochs, and its record has no end yet.",
    "not finite": f"gates took mlp on digits {SHRUNK}; its test error is not known.",
    "finished without epochs": f"gates took mlp on digits {SHRUNK} at a test error of 12.50 %.",
    "bare": "No epoch of the run has ended yet.",
    "hostile": f"{HOSTILE} took {HOSTILE} on {HOSTILE} {SHRUNK} at a test error of 12.50 %.",
}


def test_the_headline_says_what_became_of_the_run(make: Make, case: str) -> None:
    assert Outline(of(make(case))).text["h1"] == TRUE[case]


def test_noise_between_two_timings_of_one_network_is_no_speed_up(make: Make) -> None:
    *before, end = map(json.loads, (make("whole") / "record.jsonl").read_text().splitlines())
    assert "A forward pass of one example is 2.0× as fast" in of(make("whole", "smaller"))
    source = of(make([*before, {**end, "after": end["before"]}], "same"))
    assert "as fast" not in source
    assert "Speed-up" not in source


def test_torn_lines_are_told(make: Make) -> None:
    assert "is torn and was left out" in Outline(of(make("torn"))).text["li"]


def test_the_table_has_the_records_numbers(gates: Path) -> None:
    end = json.loads((gates / "record.jsonl").read_text().splitlines()[-1])
    before, after = end["before"], end["after"]
    rows = {row[0]: row[1:] for row in Outline(of(gates)).rows}
    assert rows["Test error"] == ["–", f"{100 * end['test_error']:.2f} %", ""]
    for title, key in (("Parameters", "parameters"), ("MACs per example", "macs")):
        assert rows[title] == [f"{before[key]:,}", f"{after[key]:,}", f"{100 * after[key] / before[key]:.1f} %"]
    assert rows["Bytes"] == [
        f"{before['bytes'] / 1e3:,.0f} kB",
        f"{after['bytes'] / 1e3:,.0f} kB",
        f"{100 * after['bytes'] / before['bytes']:.1f} %",
    ]
    for timing in end["latency"]:
        old, new = timing["before"]["median"], timing["after"]["median"]
        wanted = [f"{1e3 * old:.3g} ms", f"{1e3 * new:.3g} ms", f"{old / new:.1f}× as fast"]
        assert rows[f"Forward pass, batch {timing['batch']}"] == [rounded(word) for word in wanted]
        tails = [f"{1e3 * timing[when]['p95']:.3g} ms" for when in ("before", "after")]
        assert rows[f"95th percentile, batch {timing['batch']}"] == [*(rounded(word) for word in tails), ""]
    assert rows["Training time"][1] == f"{end['train_seconds']:,.0f} s"


def rounded(word: str) -> str:
    """Milliseconds below one have three digits after the point, up to ten two."""
    number, _, unit = word.partition(" ")
    return word if unit != "ms" else f"{float(number):.{3 if float(number) < 1 else 2}f} ms"


def test_several_runs_side_by_side(dense: Path, gates: Path) -> None:
    source = of(dense, gates)
    outline = check(source)
    assert outline.text["h1"] == "2 runs on mnist: dense has the lowest test error, 1.71 %, with 266,610 parameters."
    rows = {row[0]: row for row in outline.rows if len(row) > 8}
    assert rows["gates"][2:4] == ["1.82 %\n+0.11 pp", f"{json.loads(data_of(source))['runs'][1]['size']['parameters']:,}\n11.8 %"]
    assert source.count("<article") == 2


def test_a_dense_reference_is_not_needed(make: Make) -> None:
    source = of(make("whole", "one"), make("unfinished", "two"))
    check(source)
    assert Outline(source).text["h1"].startswith("2 runs on digits: one has the lowest test error")


def test_runs_of_which_none_is_over(make: Make) -> None:
    assert Outline(of(make("no epochs", "one"), make("unfinished", "two"))).text["h1"] == "2 runs on digits."


def test_a_page_repeats(gates: Path) -> None:
    assert of(gates) == of(gates)


def test_only_a_live_page_may_ask_its_server(gates: Path) -> None:
    assert "connect-src" not in of(gates)
    assert json.loads(data_of(of(gates)))["live"] is False
    live = of(gates, live=True)
    assert "connect-src 'self'" in live
    assert json.loads(data_of(live))["live"] is True


def test_the_waiting_page_says_why() -> None:
    outline = check(waiting(Path(HOSTILE), f"nothing at {HOSTILE}"))
    assert outline.text["h1"] == "Waiting for the run to begin."
    assert f"nothing at {HOSTILE}" in outline.text["p"]


def test_every_file_of_the_page_is_used() -> None:
    names = {entry.name for entry in resources.files("parsinet.report.page").joinpath("assets").iterdir()}
    assert names == {*(f"{name}.js" for name in SCRIPTS), "page.css", "page.html"}


LABELS = re.compile(r"<(button|input)\b(?![^>]*aria-label)[^>]*>\s*</", re.DOTALL)


def test_controls_have_names(gates: Path) -> None:
    assert LABELS.findall(of(gates)) == []
    assert LABELS.findall("<button type=button></button>") == ["button"]
