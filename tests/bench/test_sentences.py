"""Sentences: numbers of running text are held against tables and records, follow them, and cannot stand there without a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from parsinet.bench import check, rewrite
from parsinet.bench.prose import measured, standing
from parsinet.errors import RunError, UsageError

ROWS: list[dict[str, Any]] = [
    {"method": "a", "error": 0.04, "size": 98},
    {"method": "a", "error": 0.02, "size": 50},
    {"method": "b", "error": 0.01, "size": 10},
]
CELL = {"table": "t", "row": "a", "column": "mean (range)"}
RECORD = {"source": "rows.json", "entries": "rows", "where": {"method": "a"}}


def planted(folder: Path, sentences: list[dict[str, Any]], text: str, **page: Any) -> Path:
    """A claims file over a page with one claimed table and this text."""
    table = "| method | mean (range) |\n|---|---|\n| a | 3.00 (2.00–4.00) |\n| b | 1.00 (1.00–1.00) |\n"
    claim = {
        "claim": "a is worse",
        "provenance": "planted",
        "source": "rows.json",
        "entries": "rows",
        "match": {"method": "method"},
        "columns": {"mean (range)": [{"number": "error", "times": 100, "give": ["mean", "min", "max"]}]},
        "cells": {"a": {"mean (range)": "3.00 (2.00–4.00)"}, "b": {"mean (range)": "1.00 (1.00–1.00)"}},
        "documents": ["page.md"],
        "after": "# Page",
    }
    values = {"claims": [claim], "sentences": ["said/*.yaml"], "prose": ["page.md"]}
    told = {"document": "page.md", "tables": {"t": {"document": "page.md", "after": "# Page"}}, "sentences": sentences, **page}
    (folder / "said").mkdir()
    (folder / "rows.json").write_text(json.dumps({"rows": ROWS}))
    (folder / "page.md").write_text(f"# Page\n\n{table}\n{text}")
    (folder / "said" / "page.yaml").write_text(yaml.safe_dump(told, allow_unicode=True))
    (folder / "claims.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    return folder / "claims.yaml"


def test_a_sentence_repeats_its_table_and_its_records(tmp_path: Path) -> None:
    """Line breaks aside, as exactly as its digits go; cells, records, counts, differences, ratios, and numbers that are none of ours."""
    says = "Method a has {3.0} % ({4.0} at most), {2.0} points more than b, {3} times its error; {1} of {2} runs hold; γ = {0.5}"
    difference = [CELL, {**CELL, "row": "b"}]
    close = {**RECORD, "number": "size", "times": 0.01, "between": [98, 100], "give": "count"}
    counts = [close, {**RECORD, "give": "count"}]
    numbers = [CELL, {**CELL, "number": 2}, {"difference": difference}, {"ratio": difference}, *counts, "a setting"]
    text = "Method a has 3.0 % (4.0 at most), 2.0 points more than b,\n3 times its error; 1 of 2 runs hold; γ = 0.5. All in 2 %.\n"
    told = check(planted(tmp_path, [{"says": says, "numbers": numbers}, {"says": "All in {2} %", "numbers": "a bound"}], text))
    assert told.endswith("So do 6 numbers of running text in the tables and records that they repeat.")


@pytest.mark.parametrize(
    ("says", "place", "words"),
    [
        ("has {3.1} %", CELL, "says 3.1, but it is 3: the table t (a; mean (range))"),
        ("gets {3.0} %", CELL, "page.md does not say so"),
        ("has 3.0 %", CELL, "0 numbers in braces, and 1 places"),
        ("has {3.0 %}", CELL, "{3.0 %} is no number"),
        ("has {3.0} %", {**CELL, "row": "c"}, "page.md has 0 rows with c"),
        ("has {3.0} %", {**CELL, "column": "median"}, "0 columns are titled 'median'"),
        ("has {3.0} %", {**CELL, "number": 3}, "page.md prints 3 numbers for a under mean (range)"),
        ("has {3.0} %", {**CELL, "table": "u"}, "no table is named 'u'; there are t"),
        ("has {3.0} %", {**RECORD, "number": "error"}, "says 3.0, but it is 0.03: mean of error in rows.json"),
        ("has {3.0} %", {**RECORD, "where": {"method": "c"}, "number": "error"}, "no entry fits"),
    ],
)
def test_a_sentence_that_does_not_hold_is_named(tmp_path: Path, says: str, place: dict[str, Any], words: str) -> None:
    with pytest.raises(RunError, match="do not hold") as caught:
        check(planted(tmp_path, [{"says": says, "numbers": [place]}], "Method a has 3.0 % here.\n"))
    assert words in str(caught.value)


def test_a_number_without_a_claim_is_named(tmp_path: Path) -> None:
    """Also one that stands in another place than the claimed one, and one of a table that nobody claims."""
    text = "a has 3.0 %; it has 7.5 % there.\n\n| x |\n|---|\n| 0.25 |\n"
    path = planted(tmp_path, [{"says": "a has {3.0} %", "numbers": [CELL]}], text)
    with pytest.raises(RunError) as caught:
        check(path)
    assert str(caught.value).count("a number without a claim") == 2
    assert "page.md: line 8: " in str(caught.value)
    assert "a has 3.0 %; it has 7.5 % there." in str(caught.value)
    assert "| 0.25 |" in str(caught.value)


def test_tables_of_settings_need_no_claim(tmp_path: Path) -> None:
    text = "a has 3.0 %.\n\n| option | default |\n|---|---|\n| x | 0.25 |\n"
    check(planted(tmp_path, [{"says": "a has {3.0} %", "numbers": [CELL]}], text, unmeasured=["| option | default |"]))


@pytest.mark.parametrize(
    ("sentence", "page"),
    [
        ({"says": "x", "numbers": "y"}, {"wrong": 1}),
        ({"says": "x", "numbers": [{"difference": [CELL, CELL], "ratio": [CELL, CELL]}]}, {}),
        ({"says": "x"}, {}),
    ],
)
def test_a_file_of_sentences_that_cannot_be_used_is_refused(tmp_path: Path, sentence: dict[str, Any], page: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"page\.yaml"):
        check(planted(tmp_path, [sentence], "", **page))


def test_a_pattern_that_names_no_file_is_refused(tmp_path: Path) -> None:
    path = planted(tmp_path, [], "")
    path.write_text(path.read_text().replace("said/*.yaml", "gone/*.yaml"))
    with pytest.raises(UsageError, match=r"No file fits gone/\*\.yaml"):
        check(path)


def test_rewriting_follows_the_records_in_sentences(tmp_path: Path) -> None:
    """Tables first, then the words that repeat them, digits and form as they were; all else keeps its bytes."""
    told = {"says": "has {3.0} %, {.03} in parts", "numbers": [CELL, {**RECORD, "number": "error"}]}
    path = planted(tmp_path, [told, {"says": "of {2} %", "numbers": "a setting"}], "Method a has\n3.0 %, .03 in parts; of 2 %.\n")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [{**row, "error": 2 * row["error"]} for row in ROWS]}))
    with pytest.raises(RunError, match="do not hold"):
        check(path)
    assert rewrite(path) == "2 cells of 1 tables and 2 numbers of running text were rewritten."
    check(path)
    assert (tmp_path / "page.md").read_text().endswith("Method a has\n6.0 %, .06 in parts; of 2 %.\n")
    before = (tmp_path / "said" / "page.yaml").read_bytes()
    assert rewrite(path) == "0 cells of 0 tables and 0 numbers of running text were rewritten."
    assert (tmp_path / "said" / "page.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.5 and 2 % of 3 runs", ["1.5", "2"]),
        ("at 90, 95 and 99 %, in 3 layers", ["90", "95", "99"]),
        ("784-300-100-10, LeNet-5, ResNet-20 and 16 × 16 pixels", []),
        ("43k of 266,610 parameters, 48 of 50 runs, twice 3× as fast", ["43k", "266,610", "48", "3"]),
        ("`0.5`, [text](page-1.5.md), arXiv 2103.16013, <!-- 0.7 -->", []),
        ("```\n0.5\n```\n# 1.5\n    2.5\n3.5\n", ["3.5"]),
        ("| at 0.5 |\n|---|\n| 1.5 |\n", ["1.5"]),
        ("(.81 to .94) and −.13, 3.3e-3", [".81", ".94", ".13", "3.3e-3"]),
        ("torch 2.13.0", []),
    ],
)
def test_which_numbers_look_measured(text: str, found: list[str]) -> None:
    assert [text[first:last] for first, last in measured(text)] == found


def test_words_are_found_across_line_breaks_wherever_they_stand() -> None:
    text = "at 56 % here, at\n56 % there, at 156 %"
    assert [[text[a:b] for a, b in places] for places in standing("at {56} %", text)] == [["56"], ["56"]]
    assert standing("{6} %", text) == []


def test_the_page_of_a_suite_is_what_its_records_make(tmp_path: Path) -> None:
    """Else it is named, and made anew."""
    path = planted(tmp_path, [], "")
    path.write_text(f"{path.read_text()}reports: {{quick: made}}\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "report.md").write_text("# quick\n\nAll won.\n")
    with pytest.raises(RunError, match=r"made/report\.md: line 1: the records make it '# "):
        check(path)
    rewrite(path)
    check(path)
    assert "Nothing is trained yet." in (tmp_path / "made" / "report.md").read_text()
