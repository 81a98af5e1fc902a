"""Every Python block of README.md and docs/ runs, in order and in one namespace per page; every command they show has valid options."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from docs.blocks import MarkerError, blocks, commands
from docs.running import refusal, run_commands, run_page
from docs.setups import SETUPS
from methods.toys import EARLY

ROOT = Path(__file__).parent.parent.parent
PAGES = {page.relative_to(ROOT).as_posix(): page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
SLOW = {"docs/running.md", "docs/sphere.md", "docs/tutorial.md", "docs/structure.md", "docs/export.md", "docs/report.md", "docs/tune.md"}
"""Pages that take more than two seconds."""
ELSEWHERE = {"README.md", "docs/integrations.md"}
"""Pages whose blocks other tests run: below, and tests/integrations/test_page.py."""
BARE = {"docs/tutorial.md", "docs/moving.md", "docs/spectral.md", "docs/sphere.md", "docs/stays.md", "docs/choosing.md"}
"""Pages that stand alone: nothing is assumed, not even `import parsinet`."""
FRAGMENTS = {"docs/distributed.md": 2, "docs/training.md": 1, "docs/moving.md": 1}
"""How many blocks of which page are not run; every one says why."""


def marked(pages: Iterable[str]) -> list[object]:
    return [pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [], id=page) for page in pages]


@pytest.mark.filterwarnings(EARLY)  # the few steps here stand for whole runs
@pytest.mark.parametrize("page", marked([page for page in PAGES if page not in ELSEWHERE]))
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGES[page].read_text(encoding="utf-8"), page, () if page in BARE else ("digits",))


@pytest.mark.slow
def test_the_readme_runs_and_its_network_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pruner = run_page(PAGES["README.md"].read_text(encoding="utf-8"), "README.md", ())["pruner"]
    assert (tmp_path / "lean" / "structure.json").exists()
    assert all(units < size for units, size in zip(pruner.widths().values(), (300, 100), strict=True))


def test_the_rows_that_prune_zeroes_leave() -> None:
    """What the comment behind the first removal of the page for Torch-Pruning users promises."""
    until, _, _ = PAGES["docs/moving.md"].read_text(encoding="utf-8").partition("## Torch-Pruning")
    model = run_page(until, "docs/moving.md", ())["model"]
    assert [(layer.in_features, layer.out_features) for layer in (model[1], model[3], model[5])] == [(64, 32), (32, 32), (32, 10)]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_accepted(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_commands(PAGES[page].read_text(encoding="utf-8"), tmp_path, monkeypatch) == []


def test_a_loop_of_ones_own_goes_on_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two functions of the page on running, used as it says: gone on from a checkpoint after removals, by what was built anew."""
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks((ROOT / "docs" / "running.md").read_text(encoding="utf-8")) if "def resume()" in block.code]

    def built() -> dict[str, Any]:
        torch.manual_seed(0)
        names: dict[str, Any] = {}
        SETUPS["digits"](names)
        names.update(steps=40, example_inputs=names["x"][:2])
        SETUPS["gating"](names)
        exec(block.code, names)
        return names

    def go_on(names: dict[str, Any], first: int) -> None:
        for step in range(first, 40):
            if step == 24:
                names["save"](step)
            names["loss_fn"](nn.functional.dropout(names["model"](names["x"]), 0.1), names["y"]).backward()
            names["optimizer"].step()
            names["optimizer"].zero_grad()
            names["pruner"].step()

    whole = built()
    go_on(whole, 0)
    again = built()
    step = again["resume"]()
    assert step == 24
    assert 1 < sum(again["pruner"].widths().values()) < 40, "nothing had left before the checkpoint"
    go_on(again, step)
    expected, found = whole["pruner"].finish().state_dict(), again["pruner"].finish().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_few_blocks_are_fragments() -> None:
    found = {page: [b for b in blocks(path.read_text(encoding="utf-8")) if b.fragment] for page, path in PAGES.items()}
    assert {page: len(fragments) for page, fragments in found.items() if fragments} == FRAGMENTS
    assert all(len(block.fragment) > 20 for fragments in found.values() for block in fragments), "a fragment says why it is one"


def test_commands_are_found() -> None:
    """The readme shows some in a block and some in its text; a collector that finds none would pass everything."""
    found = [" ".join(words) for _, words in commands(PAGES["README.md"].read_text(encoding="utf-8"))]
    assert "inspect --model tiny-vit --input-shape 1,28,28" in found
    assert "train --resume runs/first" in found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", AssertionError),
        ("```python\nimport parsinet as pn\n\npn.tracee\n```\n", AttributeError),
        ("```python\nx = = 1\n```\n", SyntaxError),
        ("<!-- test: fragment, it is cut off in the middle -->\n```python\nx = = 1\n```\n", SyntaxError),
        ("<!-- test: after nobody -->\n```python\nx = 1\n```\n", KeyError),
        ("<!-- test: skip -->\n```python\nx = 1\n```\n", MarkerError),
        ("<!-- test: fragment -->\n```python\nx = 1\n```\n", MarkerError),
        ("<!-- test: after network -->\n\n```python\nx = 1\n```\n", MarkerError),
    ],
)
def test_a_broken_block_is_seen(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run_page(text, "planted.md", ())


def test_an_error_tells_page_and_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("# Title\n\n```python\nx = 1\n1 / 0\n```\n", "planted.md", ())
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno) == ("planted.md", 5)


def test_blocks_share_a_page_and_no_more() -> None:
    assert run_page("```python\na = 1\n```\ntext\n```python\nb = a + 1\n```\n", "page.md", ())["b"] == 2
    with pytest.raises(NameError):
        run_page("```python\na\n```\n", "page.md", ())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --dat digits --out runs/x", "--dat"),
        ("train --method gatez --out runs/x", "gatez"),
        ("train --method gates --set method.prize=1 --out runs/x", "prize"),
        ("train --set chekpoint.keep=1 --out runs/x", "chekpoint"),
        ("train --resume runs/first --epochs 3", "--resume"),
        ("inspect --input-shape 3,32 --clases 10", "--clases"),
        ("reprt runs/first", "reprt"),
        ("report --speed runs/first", "--speed"),
    ],
)
def test_a_wrong_command_is_seen(command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (told,) = run_commands(f"```\nparsinet {command}\n```\n", tmp_path, monkeypatch)
    assert words in told


def test_right_commands_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "`parsinet train --method vib --set method.kl=3e-4 --out a` and\n```\n$ parsinet report runs/a \\\n  --out b  # plots\n```\n"
    assert run_commands(text, tmp_path, monkeypatch) == []
    assert refusal(["report", "runs/a"]) == ""
