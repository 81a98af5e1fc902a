"""The reference: one page per public package, from the list in parsinet/__init__.py, so that none can be forgotten."""

from __future__ import annotations

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parent.parent.parent / "src" / "parsinet"
TITLE = "Reference"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages behind all others in the navigation."""
    config.nav = [*(config.nav or []), {TITLE: [{name: uri} for name, uri in pages().items()]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the pages; mkdocstrings fills them."""
    for name, uri in pages().items():
        files.append(File.generated(config, uri, content=f"# {name}\n\n::: {name}\n"))
    return files


def pages() -> dict[str, str]:
    """Package → page. Only what is listed in `__all__` of the package, or is a module of one file, is public."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and _name(node) == "__all__")
    inner = [name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()]
    return {"parsinet": "api/parsinet.md", **{f"parsinet.{name}": f"api/{name}.md" for name in inner}}


def _name(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
