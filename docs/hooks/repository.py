"""Links from a page to files of the repository outside docs/: each such file becomes a part of the site.

The same relative links work where the pages are read as files of the repository. README.md is the first page of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
DOCS = "docs/"
HOME = "README.md"
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
DRAWN = (".png", ".svg", ".json")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page, and what pages link to, and what that links to."""
    pages = [HOME, *(DOCS + file.src_uri for file in files.documentation_pages())]
    seen = set(pages)
    while pages:
        page = pages.pop()
        for target in linked(page):
            if target not in seen and (ROOT / target).is_file() and not target.startswith(DOCS):
                seen.add(target)
                files.append(made(target, config))
                pages += [target] if target.endswith(".md") else []
    files.append(made(HOME, config))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page to where their targets are in the site."""
    here = page.file.src_uri
    return rewritten(markdown, home_of(here), here)


def linked(page: str) -> set[str]:
    """Files of the repository that a page links to, as paths from the root."""
    text = CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(page), match[2])) for match in LINK.finditer(text)}


def made(path: str, config: MkDocsConfig) -> File:
    """A file of the site from one of the repository: pages and pictures as they are, code as a page that shows it."""
    kind = Path(path).suffix
    if kind == ".md" or kind in DRAWN:
        return File.generated(config, site_path(path), abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text(encoding="utf-8")
    fence = "~~~~" if "```" in text else "```"
    return File.generated(config, site_path(path), content=f"# {path}\n\n{fence}{LANGUAGES.get(kind, 'text')}\n{text}{fence}\n")


def site_path(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path == HOME:
        return "index.md"
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return path if path.endswith((".md", *DRAWN)) else f"{path}.md"


def home_of(page: str) -> str:
    """Where a page of the site is in the repository."""
    if page == "index.md":
        return HOME
    return page if (ROOT / page).is_file() else DOCS + page


def rewritten(markdown: str, home: str, here: str) -> str:
    """Links relative to `home` in the repository, made relative to `here` in the site; code is left alone."""

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[2]))
        there = posixpath.relpath(site_path(target), posixpath.dirname(here) or ".")
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return "".join(part if part.startswith("```") else LINK.sub(turned, part) for part in CODE.split(markdown))
