"""Links in the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def broken(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    return [target for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text) if not (page.parent / target).exists()]


def test_relative_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        assert broken(page, page.read_text(encoding="utf-8")) == [], page.name


def test_a_broken_link_is_seen() -> None:
    assert broken(ROOT / "README.md", "[a](docs/gates.md#x) [b](docs/gatez.md#x) ![c](docs/c.png) [d](https://d.org/e)") == [
        "docs/gatez.md",
        "docs/c.png",
    ]
