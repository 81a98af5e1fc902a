"""The site asks the network for nothing: a page that would load something from elsewhere fails the build."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

AWAY = r"=\"?(?:https?:)?//[^>]*>"
LOADS = re.compile(rf"<(?:script|img|iframe|source|video)\b[^>]*\bsrc{AWAY}|<link\b[^>]*\bhref{AWAY}|@import")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that loads from elsewhere; links that a reader follows are fine."""
    found = [tag for tag in LOADS.findall(output) if 'rel="canonical"' not in tag]
    if found:
        raise PluginError(f"{page.file.src_uri} loads from the network: {found[0]}")
    return output
