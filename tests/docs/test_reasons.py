"""docs/stays.md lists every reason for which the engine keeps a unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.reasons import of_engine, reasons

ROOT = Path(__file__).parent.parent.parent
OTHER = ("folding.py",)
"""Files whose reasons are of another kind: why a fold is not exact (docs/structure.md)."""


def missing(found: dict[str, str], page: str) -> list[str]:
    """Reasons no row of the page begins with."""
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")}
    return sorted(reason for reason, file in found.items() if file not in OTHER and reason.replace("……", "…").strip() not in rows)


def test_every_reason_is_on_the_page() -> None:
    found = of_engine(ROOT / "src" / "parsinet" / "structure")
    assert len(found) > 40
    assert missing(found, (ROOT / "docs" / "stays.md").read_text(encoding="utf-8")) == []


def test_the_page_invents_none() -> None:
    page = (ROOT / "docs" / "stays.md").read_text(encoding="utf-8")
    known = {reason.replace("……", "…").strip() for reason in of_engine(ROOT / "src" / "parsinet" / "structure")}
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ") and not line.startswith("| reason")]
    assert [row for row in rows if row not in known] == []


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("ctx.labels.freeze(axis, f'{ctx.where} spins it')", "… spins it"),
        ("self.freeze_label(int(label), 'it is too heavy')", "it is too heavy"),
        ("ctx.inexact.append((axis, f'{ctx.where} weighs it'))", "… weighs it"),
        ("replace(group, removable=False, reason='it is not wanted')", "it is not wanted"),
        ("def _try():\n    return f'the network is {mood} without it'", "the network is … without it"),
    ],
)
def test_a_reason_that_is_not_on_the_page_is_seen(source: str, reason: str) -> None:
    assert reasons(source) == {reason}
    assert missing({reason: "new.py"}, "| … normalises over it | … |") == [reason]
