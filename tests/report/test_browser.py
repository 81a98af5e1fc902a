"""The page in a real browser: it draws without an error or a request, answers pointer and keyboard, and follows a live run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chromium import Chromium, found
from parsinet.report import read
from parsinet.report.page import page
from parsinet.report.watch.server import PageServer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(found() is None, reason="no Chromium is installed (apt-get install chromium)")]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for all tests of this file."""
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium: Chromium) -> Chromium:
    """The browser as a light desktop."""
    chromium.size(1280, 900)
    chromium.scheme("light")
    return chromium


def shown(browser: Chromium, path: Path, *runs: Path) -> None:
    """Open the page of the runs; nothing may fail, and nothing but the page may be asked for."""
    path.write_text(page([read(run) for run in runs]), encoding="utf-8")
    browser.open(path.as_uri())
    assert (browser.errors, browser.requests) == ([], [path.as_uri()])


def words(browser: Chromium, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))


def middle(browser: Chromium, selector: str, part: float = 0.5) -> tuple[float, float]:
    """A point within an element that has been scrolled into view."""
    found = f"document.querySelector({json.dumps(selector)})"
    browser.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
    left, top, width, height = browser.evaluate(f"(b => [b.left, b.top, b.width, b.height])({found}.getBoundingClientRect())")
    return left + part * width, top + height / 2


@pytest.mark.parametrize(("width", "scheme", "paper"), [(1280, "light", "rgb(246, 245, 242)"), (390, "dark", "rgb(16, 19, 22)")])
def test_a_page_fits_every_width_and_scheme(
    browser: Chromium, tmp_path: Path, gates: Path, dense: Path, deep: Path, width: int, scheme: str, paper: str
) -> None:
    browser.size(width, 900, phone=width < 500)
    browser.scheme(scheme)
    for runs in ([gates], [deep], [dense, gates]):
        shown(browser, tmp_path / "page.html", *runs)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == paper
        assert browser.evaluate("document.querySelectorAll('.chart svg path.line').length") >= 4
        assert browser.evaluate("document.querySelectorAll('.network .bar').length") >= 3


def test_the_check_of_errors_and_requests_objects(browser: Chromium, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    planted.write_text("<script>fetch('missing.json').catch(() => {}); nothing.there;</script>")
    browser.open(planted.as_uri())
    browser.until("document.readyState === 'complete'")
    assert any("nothing is not defined" in error for error in browser.errors)
    assert len(browser.requests) > 1


def test_a_hostile_run_runs_no_script(browser: Chromium, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=window.bad=1><script>window.bad=1</script>"
    about = {"recipe": {"method": name, "model": name}, "dataset": {"name": name}}
    groups = [{"name": name, "size": 8, "removable": False, "reason": name}]
    start = {"event": "start", "format": 1, "parameters": 10, "macs": 5, "groups": groups, **about}
    told = {"groups": {name: {"theta": [0.5], "score": [1.0]}}, "hoyer": {name: 0.5}}
    epoch = {
        "event": "epoch",
        "epoch": 1,
        "epochs": 2,
        "step": 1,
        "parameters": 10,
        "macs": 5,
        "loss": 1.0,
        "widths": {name: 4},
        "method": told,
    }
    folder = tmp_path / "<script>window.bad=1<"
    folder.mkdir()
    (folder / "record.jsonl").write_text("\n".join(json.dumps(event) for event in (start, epoch)))
    shown(browser, tmp_path / "page.html", folder)
    assert browser.evaluate("typeof window.bad") == "undefined"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert name in words(browser, ".network details")


def test_the_pointer_reads_the_records_numbers(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    shown(browser, tmp_path / "page.html", gates)
    browser.move(*middle(browser, ".chart .drawing svg", 0.52))
    told = words(browser, ".tip")
    number = int(told.split("epoch ")[1].split("validation")[0])
    event = next(e for e in events(gates) if e["event"] == "epoch" and e["epoch"] == number)
    assert f"validation{100 * event['validation_error']:.2f} %" in told
    assert f"training{100 * event['train_error']:.2f} %" in told
    browser.move(2, 2)
    browser.until("document.querySelector('.tip').hidden")


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]


def test_arrow_keys_read_the_curves(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    shown(browser, tmp_path / "page.html", gates)
    browser.evaluate("document.querySelector('.chart .drawing').focus()")
    browser.press("ArrowRight")
    assert words(browser, "#told").startswith("epoch 1: validation ")
    browser.press("End")
    browser.press("ArrowLeft")
    assert words(browser, "#told").startswith("epoch 19: ")
    browser.press("Escape")
    assert browser.evaluate("document.querySelector('.hair').children.length") == 0


def test_the_slider_shows_every_moment(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    shown(browser, tmp_path / "page.html", gates)
    assert words(browser, ".told b") == "the result"
    browser.evaluate("document.querySelector('.slider input').focus()")
    browser.press("Home")
    assert words(browser, ".told b") == "before training"
    for _ in range(7):
        browser.press("ArrowRight")
    event = next(e for e in events(gates) if e["event"] == "epoch" and e["epoch"] == 7)
    assert words(browser, ".told").startswith(f"after epoch 7{event['parameters']:,} parameters")
    units = browser.evaluate("[...document.querySelectorAll('.network .units .strong')].map(e => e.textContent)")
    assert units == [f"{width:,}" for width in event["widths"].values()]
    assert browser.evaluate("document.querySelector('.slider input').getAttribute('aria-valuetext')").startswith("after epoch 7, ")


def test_play_runs_to_the_end(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    shown(browser, tmp_path / "page.html", gates)
    browser.evaluate("document.querySelector('.play').click()")
    assert words(browser, ".play") == "Pause"
    assert words(browser, ".told b") == "before training"
    browser.until("document.querySelector('.play').textContent === 'Play'")
    assert words(browser, ".told b") == "the result"


def test_the_theme_button(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    shown(browser, tmp_path / "page.html", gates)
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = [browser.evaluate(paper)]
    for _ in range(3):
        browser.evaluate("document.getElementById('theme').click()")
        seen.append(browser.evaluate(paper))
    light, dark = "rgb(246, 245, 242)", "rgb(16, 19, 22)"
    assert seen == [light, light, dark, light]


def test_axes_and_runs_can_be_chosen(browser: Chromium, tmp_path: Path, gates: Path, dense: Path) -> None:
    shown(browser, tmp_path / "page.html", dense, gates)
    assert browser.evaluate("[...document.querySelectorAll('article')].map(e => e.hidden)") == [False, True]
    browser.evaluate("document.querySelector('[data-draw=choice] [data-value=\"1\"]').click()")
    assert browser.evaluate("[...document.querySelectorAll('article')].map(e => e.hidden)") == [True, False]
    assert browser.evaluate("document.activeElement.dataset.value") == "1"
    browser.evaluate("document.querySelector('.controls [data-value=seconds]').click()")
    assert "seconds of training" in words(browser, ".charts")
    browser.evaluate("document.querySelector('[data-value=macs]').click()")
    assert "Test error against MACs per example" in words(browser, ".wide")
    browser.evaluate("document.querySelectorAll('.numbers')[0].open = true")
    browser.until("document.querySelectorAll('.numbers tbody tr').length >= 20")
    assert browser.errors == []


FIGURES = {1234567.0: "1,234,567", 0.125: "0.12", 0.375: "0.38", -1234.5: "-1,234.50", 2.675: "2.67"}


def test_numbers_are_written_as_in_the_tables(browser: Chromium) -> None:
    source = (Path(__file__).parents[2] / "src/parsinet/report/page/assets/format.js").read_text(encoding="utf-8")
    browser.open("about:blank")
    for value in FIGURES:
        digits = 0 if value > 1e6 else 2
        assert browser.evaluate(f"(() => {{ {source}; return fixed({value!r}, {digits}); }})()") == f"{value:,.{digits}f}"


def test_a_live_page_follows_the_run(browser: Chromium, tmp_path: Path, gates: Path) -> None:
    lines = (gates / "record.jsonl").read_text().splitlines(keepends=True)
    folder = tmp_path / "live"
    with PageServer(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        browser.open(server.address)
        assert words(browser, "h1") == "Waiting for the run to begin."
        folder.mkdir()
        for count, sentence in ((1, "No epoch"), (9, "The run has done"), (len(lines), "gates took lenet-300-100")):
            (folder / "record.jsonl").write_text("".join(lines[:count]))
            browser.until(f"document.querySelector('h1').textContent.startsWith({sentence!r})")
            if count == 9:
                browser.evaluate("document.querySelector('.slider input').focus()")
                browser.press("Home")
        assert words(browser, ".told b") == "before training", "the slider stays where it was"
        assert browser.evaluate("document.activeElement.id") == "moment-0"
        assert browser.errors == []
        server.shutdown()
        thread.join()
    time.sleep(0.1)
    browser.until("document.getElementById('live').className === 'off'")
