"""Sentences: numbers of running text are held against tables and records, follow them, and cannot stand there without a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from parsinet.bench import check, rewrite
from parsinet.bench.prose import measured, standing
from parsinet.errors import DataError, RunError, StorageError, UsageError

ROWS: list[dict[str, Any]] = [
    {"method": "a", "error": 0.04, "size": 98},
    {"method": "a", "error": 0.02, "size": 50},
    {"method": "b", "error": 0.01, "size": 10},
]
CELL = {"table": "t", "row": "a", "column": "mean (range)"}
RECORD = {"source": "rows.json", "entries": "rows", "where": {"method": "a"}}


def planted(folder: Path, sentences: list[dict[str, Any]], text: str, row: str = "", **page: Any) -> Path:
    """A claims file over a page with one claimed table, with a further row, and this text."""
    table = f"| method | mean (range) |\n|---|---|\n| a | 3.00 (2.00–4.00) |\n| b | 1.00 (1.00–1.00) |\n{row}"
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


@pytest.mark.parametrize("row", ["| b | falls off at 99 % |", "| b | falls off at 99 % |\n| c | |"])
def test_words_of_a_claimed_table_are_running_text(tmp_path: Path, row: str) -> None:
    """In a column whose numbers are none of ours; also above a row of which nothing is left, which looks like the line below a head."""
    path = planted(tmp_path, [], "")
    values = yaml.safe_load(path.read_text())
    values["claims"][0] |= {"columns": {"weak points": []}, "cells": {}, "partial": True}
    path.write_text(yaml.safe_dump(values))
    (tmp_path / "page.md").write_text(f"# Page\n\n| method | weak points |\n|---|---|\n| a 2.5 | none |\n{row}\n")
    with pytest.raises(RunError, match=r"line 6: .*falls off at 99 %.*: a number without a claim"):
        check(path)
    told = {"document": "page.md", "sentences": [{"says": "at {99} %", "numbers": "a setting"}]}
    (tmp_path / "said" / "page.yaml").write_text(yaml.safe_dump(told))
    check(path)


BROKEN = [
    ({**RECORD, "number": "error", "over": "none"}, "error is divided by 0"),
    ({**RECORD, "number": "none", "give": "variation"}, "none is divided by 0"),
    ({"ratio": [CELL, {"difference": [CELL, CELL]}]}, "that is divided by 0"),
    ({**RECORD, "number": "error", "give": "each"}, "are 2 numbers"),
    ({**RECORD, "number": "error", "give": "meen"}, "Did you mean 'mean'?"),
    ({**RECORD, "number": "no"}, "that is not finite"),
    ({**RECORD, "source": "numbers.jsonl", "entries": None}, "numbers.jsonl: entries are mappings"),
    ({**RECORD, "source": "/absolute.json"}, "No record fits /absolute.json"),
    ({**RECORD, "source": ""}, "No record fits"),
    ({**RECORD, "where": {"method": "c"}, "give": "count"}, "no entry fits"),
    ({**CELL, "row": "short"}, "page.md prints 0 numbers for short"),
]


@pytest.mark.parametrize(("place", "words"), BROKEN)
def test_what_gives_no_number_is_named_and_stays(tmp_path: Path, place: dict[str, Any], words: str) -> None:
    """Also by `--rewrite`, which leaves it."""
    path = planted(tmp_path, [{"says": "has {3.0} %", "numbers": [place]}], "Method a has 3.0 % here.\n", row="| short |\n")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [{**row, "none": 0, "no": float("nan")} for row in ROWS]}))
    (tmp_path / "numbers.jsonl").write_text("1\n")
    before = (tmp_path / "page.md").read_text()
    rewrite(path)
    assert (tmp_path / "page.md").read_text() == before
    with pytest.raises(RunError) as caught:
        check(path)
    assert words in str(caught.value)


def test_none_of_those_that_fit_can_be_counted(tmp_path: Path) -> None:
    place = {**RECORD, "number": "size", "between": [500, 900], "give": "count"}
    check(planted(tmp_path, [{"says": "{0} of 2", "numbers": [place]}], "In 0 of 2 runs.\n"))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("page.md", b"\xff", "page.md is no text in UTF-8"),
        ("said/page.yaml", b"document: gone.md\n", "gone.md: its sentences: gone.md cannot be read: No such file"),
        ("said/page.yaml", b"document: page.md\nunmeasured: ['| gone |']\n", "page.md: | gone |: page.md holds no line with '| gone |'"),
        ("said/page.yaml", b"document: page.md\nsentences: [{says: x, numbers: y}]\n", "page.md: x: no number in braces"),
    ],
)
def test_documents_that_are_not_as_told_are_named_beside_all_else(tmp_path: Path, file: str, text: bytes, words: str) -> None:
    path = planted(tmp_path, [], "")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [{**row, "error": 1} for row in ROWS]}))
    (tmp_path / file).write_bytes(text)
    with pytest.raises(RunError) as caught:
        check(path)
    assert words in str(caught.value)
    assert "the records say 100" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "document: page.md\ntables:\n  t: {document: page.md, after: a}\n  t: {document: page.md, after: b}\n",
            "'t' stands twice in line 4",
        ),
        ("document: page.md\nsentences: [{says: 'has {3.0} %', numbers: ''}]\n", "sentences.0.numbers"),
        ("document: [\n", "page.yaml is no file of claims"),
        ("", "page.yaml: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_file_of_sentences_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = planted(tmp_path, [], "")
    (tmp_path / "said" / "page.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        check(path)
    assert words in str(caught.value)


MAY_BE = "a cell of a table (`table`, `row`, `column`), made of records (`source`, `number`), or the `difference` or `ratio` of two such"


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (3, "numbers: must be a list that says of each number where it comes from, or words about all of them, got 3."),
        (CELL, "numbers: must be a list that says of each number where it comes from, or words about all of them, got {"),
        ([3], f"numbers.0: a number is {MAY_BE}, or words where no record of ours holds it, got 3."),
        ([CELL, {"tabel": "t"}], f"numbers.1: a number is {MAY_BE}, or words where no record of ours holds it, got {{'tabel': 't'}}."),
        ([{"difference": [CELL, "x"]}], f"numbers.0.difference.1: a number is {MAY_BE}, got 'x'."),
        ([{"table": "t", "row": "a"}], "numbers.0.column: Field required, got {"),
        ([{"ratio": [CELL]}], "numbers.0.ratio.1: Field required, got [{"),
        ([{**RECORD, "gives": "mean"}], "numbers.0.gives: Extra inputs are not permitted, got 'mean'."),
        ([{"ratio": [CELL, CELL], "difference": [CELL, CELL]}], "numbers.0: needs a difference or a ratio, one of the two."),
        ([""], "numbers.0: String should have at least 1 character, got ''."),
    ],
)
def test_what_is_no_place_of_a_number_is_refused_with_what_may_be(tmp_path: Path, numbers: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(planted(tmp_path, [{"says": "has {3.0} %", "numbers": numbers}], ""))
    assert str(caught.value).startswith(f"page.yaml: sentences.0.{words}")


@pytest.mark.parametrize(
    "key", ["sentences: said/*.yaml", "prose: ['']", "prose: [/tmp/*.md]", "sentenses: []", "reports: [quick]", "prose:"]
)
def test_a_claims_file_with_other_keys_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "claims.yaml").write_text(f"claims: []\n{key}\n")
    with pytest.raises(UsageError, match=r"claims\.yaml: |No file fits"):
        check(tmp_path / "claims.yaml")


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


def doubled(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps({"rows": [{**row, "error": 2 * row["error"]} for row in ROWS]}))


def test_rewriting_takes_any_form_of_yaml_and_several_claims_of_one_number(tmp_path: Path) -> None:
    """A block of text, and two files for one document."""
    path = planted(tmp_path, [], "Method a has\n3.0 % here.\n")
    told = "document: page.md\ntables: {t: {document: page.md, after: '# Page'}}\nsentences:\n"
    block = f"{told}  - says: >-\n      Method a has\n      {{3.0}} %\n    numbers: [{json.dumps(CELL)}]\n"
    (tmp_path / "said" / "page.yaml").write_text(block)
    (tmp_path / "said" / "second.yaml").write_text(block.replace(">-", "|-"))
    check(path)
    doubled(tmp_path)
    assert rewrite(path) == "2 cells of 1 tables and 2 numbers of running text were rewritten."
    check(path)
    assert (tmp_path / "page.md").read_text().endswith("Method a has\n6.0 % here.\n")


def test_a_number_that_changes_its_sign_or_stands_nowhere_stays(tmp_path: Path) -> None:
    difference = {"difference": [{**CELL, "row": "b"}, CELL], "times": -1}
    sentences = [{"says": "{2.0} points more", "numbers": [difference]}, {"says": "gone: {3.0} %", "numbers": [CELL]}]
    path = planted(tmp_path, sentences, "It has 2.0 points more.\n")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [{**row, "error": 0.05 * (row["method"] == "b")} for row in ROWS]}))
    before = (tmp_path / "said" / "page.yaml").read_text()
    assert rewrite(path).endswith("and 0 numbers of running text were rewritten.")
    assert (tmp_path / "said" / "page.yaml").read_text() == before
    with pytest.raises(RunError, match=r"says 2\.0, but it is -5"):
        check(path)


@pytest.mark.parametrize("fault", ["gone", "claim", "full"])
def test_nothing_is_rewritten_where_something_fails(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that is gone, a table that is gone, a disk that is full after two files; the page of a suite included."""
    path = planted(tmp_path, [{"says": "has {3.0} %", "numbers": [CELL]}], "Method a has 3.0 %.\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "report.md").write_text("old\n")
    path.write_text(f"{path.read_text()}reports: {{quick: made}}\n")
    second = (tmp_path / "said" / "page.yaml").read_text()
    (tmp_path / "said" / "second.yaml").write_text(
        second.replace("document: page.md\nsent", "document: gone.md\nsent") if fault == "gone" else second
    )
    if fault == "claim":
        path.write_text(path.read_text().replace("after: '# Page'", "after: '# Gone'"))
    doubled(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    written: list[Path] = []

    def write(target: Path, content: bytes) -> None:
        written.append(target)
        if fault == "full" and len(written) == 3:
            raise StorageError("full")
        target.write_bytes(content)

    monkeypatch.setattr("parsinet.files.write_bytes", write)
    with pytest.raises((DataError, StorageError)):
        rewrite(path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


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
        ("- **12** % of it, *5 %*, _6.5 %_, __4__ points", ["12", "5", "6.5", "4"]),
        ("2-3 %, 4–5 %, 6 – 7 %, 8±1 %, 90/95 %, .84/.62", ["2", "3", "4", "5", "6", "7", "8", "1", "90", "95", ".84", ".62"]),
        ("1.5k, 2.5M, 3M, 5ms, 2.5x, 3x as fast, 10MB, 3 GB", ["1.5k", "2.5M", "3M", "5", "2.5", "3", "10", "3"]),
        ("- it is 5\n  % here, 7 and\n  9 % there", ["5", "7", "9"]),
        ("3 percentage points, 4 per cent, 5-fold", ["3", "4", "5"]),
        ("- item\n\n    3.5 % of it\n", ["3.5"]),
        ("text\n    goes on, 3.5 %\n", ["3.5"]),
        ("[^1]: note 3.5\n\n    and 4.5\n", ["3.5", "4.5"]),
        ("text\n\n    code 3.5\n\n    0.5\nend 1.5\n", ["1.5"]),
        ("- a\n\n    ```\n    0.5\n    ```\n- b 1.5\n", ["1.5"]),
        ("~~~\n0.5\n~~~\n", []),
        ('<img width="50%" src="a/1.5.png"> <https://a.b/1.5> https://a.b/2.5', []),
        ("2x2, 1x1 kernels, 3 × 3, conv2.5, x_1 %, (a − b) / (2 min(a, b))", []),
    ],
)
def test_which_numbers_look_measured(text: str, found: list[str]) -> None:
    assert [text[first:last] for first, last in measured(text)] == found


def test_words_are_found_across_line_breaks_wherever_they_stand() -> None:
    text = "at 56 % here, at\n56 % there, at 156 %"
    assert [[text[a:b] for a, b in places] for places in standing("at {56} %", text)] == [["56"], ["56"]]
    assert standing("{6} %", text) == []


@pytest.mark.parametrize(("says", "text"), [("has {3}", "has 3.5 %"), ("{3.0} %", "-3.0 % and −3.0 %"), ("{234} runs", "1,234 runs")])
def test_part_of_a_number_is_another_number(says: str, text: str) -> None:
    assert standing(says, text) == []


def test_the_page_of_a_suite_is_what_its_records_make(tmp_path: Path) -> None:
    """Else it is named, and made anew; not where the records are gone."""
    path, quick = planted(tmp_path, [], ""), Path(__file__).parent.parent.parent / "benchmarks" / "quick"
    path.write_text(f"{path.read_text()}reports: {{quick: made}}\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "report.md").write_text("# quick\n\nAll won.\n")
    with pytest.raises(RunError, match=r"made/report\.md: line 1: the records make it '# "):
        check(path)
    with pytest.raises(DataError, match="made holds no records of quick"):
        rewrite(path)
    assert "All won." in (tmp_path / "made" / "report.md").read_text()
    (tmp_path / "made" / "records.jsonl").write_bytes((quick / "records.jsonl").read_bytes())
    rewrite(path)
    check(path)
    assert (tmp_path / "made" / "report.md").read_text() == (quick / "report.md").read_text()
