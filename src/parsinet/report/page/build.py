"""The whole page in one string: template, style, script and numbers, nothing that is fetched from anywhere."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from parsinet.report import table
from parsinet.report.page.markup import Markup, embedded, joined, tag
from parsinet.report.page.parts import head, notes, run_section
from parsinet.report.page.payload import payload
from parsinet.report.records import Run

SCRIPTS = ("format", "dom", "axes", "chart", "scatter", "network", "distribution", "inputs", "sections", "live", "main")
"""Files of the script in the order in which they are put together."""


def page(runs: Sequence[Run], *, live: bool = False) -> str:
    """HTML of one run or several. live: the page asks the server it came from for newer numbers, and is of no use as a file.

    Nothing in it is fetched: style, script and numbers are inline, and its content security policy allows no other.
    """
    rows = table.rows(runs)
    articles = joined(run_section(row, place, len(rows) > 1) for place, row in enumerate(rows))
    title = f"{runs[0].name} – parsinet" if len(runs) == 1 else f"{len(runs)} runs – parsinet"
    sections = joined([*([tag("div", data_draw="curves"), tag("div", data_draw="choice")] if len(rows) > 1 else []), articles])
    return _filled(title, head(rows), notes(rows), sections, embedded({**payload(runs), "live": live}), live)


def waiting(folder: Path, reason: str) -> str:
    """The live page of a run that cannot be read yet: which folder, why, and that the page goes on looking."""
    told = joined(
        [
            tag("p", str(folder), class_="eyebrow"),
            tag("h1", "Waiting for the run to begin."),
            tag("p", reason, class_="lead"),
            tag("p", "This page looks again every two seconds.", class_="lead"),
        ]
    )
    return _filled("Waiting – parsinet", told, joined([]), joined([]), embedded({"runs": [], "live": True}), True)


def _filled(title: str, summary: Markup, remarks: Markup, runs: Markup, data: Markup, live: bool) -> str:
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    policy = f"{allowed}; connect-src 'self'" if live else allowed
    parts = {"title": joined([title]), "policy": policy, "style": _asset("page.css"), "summary": summary, "notes": remarks}
    return Template(_asset("page.html")).substitute(**parts, runs=runs, data=data, script=script)


def _script() -> str:
    """One function around all files, so that nothing of it is global."""
    inner = "".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(function () {{\n"use strict";\n{inner}}})();\n'


def _asset(name: str) -> str:
    return resources.files("parsinet.report.page").joinpath("assets", name).read_text(encoding="utf-8")
