"""Claims: the stored ones hold in the stored records and stand so in the documents, and a false one is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from parsinet.bench import check, put_tables, redraft, rewrite
from parsinet.bench.documents import numbers, table_after, with_tables
from parsinet.bench.quantities import Quantity, computed, entries, fits
from parsinet.bench.rewriting import restated
from parsinet.errors import DataError, RunError, StorageError, UsageError

ROOT = Path(__file__).parent.parent.parent
ROWS: list[dict[str, Any]] = [
    {"method": "a", "size": size, "error": error, "strength": size} for size, error in ((100, 0.04), (100, 0.02), (400, 0.01))
]


def planted(folder: Path, cells: dict[str, str], **changes: Any) -> Path:
    """A claims file over three rows and one document."""
    (folder / "rows.json").write_text(json.dumps({"rows": ROWS}))
    (folder / "page.md").write_text("# Page\n\n| method | mean (range) | at 200 |\n|---|---|---|\n| a | 2.33 (1.00–4.00) | 1.73 |\n")
    claim = {
        "claim": "a is good",
        "provenance": "planted",
        "source": "rows.json",
        "entries": "rows",
        "match": {"method": "method"},
        "columns": {
            "mean (range)": [{"number": "error", "times": 100, "give": ["mean", "min", "max"]}],
            "at 200": [{"number": "error", "times": 100, "at": {"size": 200}}],
        },
        "cells": {"a": {"mean (range)": "2.33 (1.00–4.00)", "at 200": "1.73", **cells}},
        "documents": ["page.md"],
        "after": "# Page",
        **changes,
    }
    (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim]}, allow_unicode=True))
    return folder / "claims.yaml"


def test_every_stored_claim_holds() -> None:
    assert "cells of" in check(ROOT / "benchmarks" / "claims.yaml")


def test_the_tables_of_the_readme_are_claimed() -> None:
    claimed = {document for claim in yaml.load((ROOT / "benchmarks/claims.yaml").read_text(), yaml.CSafeLoader)["claims"]
               for document in claim["documents"]}  # fmt: skip
    assert {"../README.md", "gates/README.md", "sphere/README.md", "spectral/README.md", "speed/README.md"} <= claimed


def test_true_claims_hold(tmp_path: Path) -> None:
    assert check(planted(tmp_path, {})) == "All 2 claimed cells of 1 tables hold in the records, and stand so in the documents."


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"at 200": "1.71"}, "a, at 200: prints 1.71 in '1.71', the records say 1.73205"),
        ({"mean (range)": "2.33 (1.00–3.00)"}, "prints 3 in '2.33 (1.00–3.00)', the records say 4"),
        ({"at 200": "1.732"}, "page.md prints '1.73', the claim is '1.732'"),
        ({"at 200": "1.73 (5)"}, "more numbers than the 1 that the claim explains"),
        ({"mean (range)": "2.33"}, "prints '2.33', the records say 1 as well"),
    ],
)
def test_a_false_claim_is_noticed(cells: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="do not hold") as caught:
        check(planted(tmp_path, cells))
    assert words in str(caught.value)


def test_a_wide_tolerance_lets_it_pass_in_the_records_alone(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        check(planted(tmp_path, {"at 200": "1.70"}, tolerance=0.05))
    assert str(caught.value).count("\n") == 1
    assert "page.md prints" in str(caught.value)


RUNS: list[dict[str, Any]] = [
    {"widths": [4, 2], "left": {"a": 0.5, "b": 0.25}, "error": 0.5, "before": 0.25, "layers": {"1.weight": {"h": 0.1}}, "none": None},
    {"widths": [8, 2], "left": {}, "error": 0.25, "before": 0.5, "layers": {"1.weight": {"h": 0.3}}, "none": None},
]


@pytest.mark.parametrize(
    ("told", "path", "wanted"),
    [
        ({"number": "error", "give": ["mean", "each", "max"]}, [], [0.375, 0.5, 0.25, 0.5]),
        ({"number": "widths", "give": ["each"]}, [], [4, 2, 8, 2]),
        ({"number": "widths.0", "give": ["min", "max"]}, [], [4, 8]),
        ({"number": "left", "times": 100, "give": ["min", "max"]}, [], [25, 50]),
        ({"number": "left", "counted": True, "give": ["each"]}, [], [2, 0]),
        ({"number": "error", "minus": "before", "give": ["each"]}, [], [0.25, -0.25]),
        ({"number": "error", "minus": "before", "over": "before", "give": ["each"]}, [], [1, -0.5]),
        ({"number": "widths.0", "give": ["variation"]}, [], [pytest.approx(47.14, abs=0.01)]),
        ({"number": ["layers", "*", "h"]}, ["1.weight"], [pytest.approx(0.2)]),
        ({"number": "layers"}, ["1.weight", "h"], [pytest.approx(0.2)]),
        ({"number": ["layers", "*", "h"], "give": ["each"]}, [], [0.1, 0.3]),
    ],
)
def test_what_a_quantity_makes_of_entries(told: dict[str, Any], path: list[str], wanted: list[float]) -> None:
    assert computed(Quantity.model_validate(told), RUNS, path, ()) == wanted


def test_what_stands_at_several_places_of_an_entry_is_taken_one_by_one() -> None:
    """Entry by entry, in a list as in a mapping; what holds no several things is told."""
    groups = [{"groups": {"a": {"n": 1}, "b": {"n": 2}}}, {"groups": [{"n": 3}, {"n": 4}]}]
    quantity = Quantity(number=("groups", "*", "n"), give=("each",))
    assert computed(quantity, groups, (), ()) == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r"holds no several things at groups: 0\.5"):
        computed(quantity, [{"groups": 0.5}], (), ())


def test_a_place_without_a_number_is_told() -> None:
    """A null, a text, nothing at all."""
    for entry in ({"error": None}, {"error": "none"}, {"error": []}, {"error": {}}):
        with pytest.raises(DataError, match="no number at error"):
            computed(Quantity(number="error"), [entry], (), ())


def test_a_list_describes_entries_that_have_one_of_its_values() -> None:
    assert [fits({"size": size}, {"size": [1, 3]}) for size in (3, 2)] == [True, False]
    assert [fits({"widths": widths}, {"widths": [3, 1]}) for widths in ([3, 1], [1, 3])] == [True, False]


def test_lists_in_a_mapping_are_entries_with_its_keys(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps({"a": [{"n": 1}, {"n": 2}], "b": [{"n": 3}]}))
    assert [(entry["key"], entry["n"]) for entry in entries(tmp_path, "rows.json", None)] == [("a", 1), ("a", 2), ("b", 3)]


def test_events_of_a_run_know_its_start(tmp_path: Path) -> None:
    """So that what a run ends with has the seed that it began with."""
    events = [{"event": "start", "seed": 3}, {"event": "end", "n": 1}]
    (tmp_path / "run.jsonl").write_text("\n".join(map(json.dumps, events)))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"event": "row", "n": 1}))
    (run,) = [entry for entry in entries(tmp_path, "run.jsonl", None) if entry["event"] == "end"]
    assert computed(Quantity(number="start.seed"), [run], (), ()) == [3]
    assert "start" not in entries(tmp_path, "rows.jsonl", None)[0]


def test_a_row_is_set_against_other_entries_of_its_records(tmp_path: Path) -> None:
    path = planted(
        tmp_path,
        {},
        match={"method": {"a": {"size": 400, "against": {"size": 100}}}},
        columns={"at 200": [{"number": "error", "times": 5.19, "relative": True}], "mean (range)": []},
    )
    values = yaml.safe_load(path.read_text())
    del values["claims"][0]["cells"]["a"]["mean (range)"]
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    assert check(path).startswith("All 1 claimed cells")


def test_entries_are_set_against_those_of_the_same_seed() -> None:
    """2/1 and 9/3, where the mean of the divisors would give 1 and 4.5."""
    found, below = ([{"n": n, "seed": seed} for seed, n in enumerate(row)] for row in ((2, 9), (1, 3)))
    quantity = Quantity(number="n", relative=True, pair="seed", give=("each",))
    assert computed(quantity, found, (), below) == [2.0, 3.0]
    assert computed(quantity.model_copy(update={"pair": None}), found, (), below) == [1.0, 4.5]
    with pytest.raises(DataError, match="nothing with the same seed"):
        computed(quantity, found, (), below[:1])


def columned(folder: Path, *claims: dict[str, Any], page: str = "| a | 2.33 (1.00–4.00) | 1.73 |\n") -> Path:
    """Claims about one table, each like the planted one but for what it says here."""
    path = planted(folder, {})
    (claim,) = yaml.safe_load(path.read_text())["claims"]
    path.write_text(yaml.safe_dump({"claims": [{**claim, **each} for each in claims]}, allow_unicode=True))
    (folder / "page.md").write_text(f"# Page\n\n| method | mean (range) | at 200 |\n|---|---|---|\n{page}")
    return path


RANGE: dict[str, Any] = {
    "columns": {"mean (range)": [{"number": "error", "times": 100, "give": ["mean", "min", "max"]}]},
    "cells": {"a": {"mean (range)": "2.33 (1.00–4.00)"}},
}
AT: dict[str, Any] = {
    "columns": {"at 200": [{"number": "error", "times": 100, "at": {"size": 200}}]},
    "cells": {"a": {"at 200": "1.73"}},
}


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ([RANGE], "page.md: the table of '# Page', column 'at 200': no claim about the table names it: 1 of 1 cells with numbers"),
        ([{**RANGE, "columns": {**RANGE["columns"], **AT["columns"]}}], "column 'at 200': no claim about the table lists them: 1 of 1"),
        ([{**RANGE, "columns": {}, "cells": {"a": {}}}, AT], "column 'mean (range)': no claim about the table names it"),
    ],
)
def test_a_column_without_a_claim_is_noticed(tmp_path: Path, claims: list[dict[str, Any]], words: str) -> None:
    """No claim names it, or one does and lists no cell of it."""
    with pytest.raises(RunError) as caught:
        check(columned(tmp_path, *claims))
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("claims", [[RANGE, AT], [{**RANGE, "columns": {**RANGE["columns"], "at 200": []}}]])
def test_several_claims_hold_a_table_together(tmp_path: Path, claims: list[dict[str, Any]]) -> None:
    """Or one that says that the numbers of a column are none of ours."""
    check(columned(tmp_path, *claims))


def test_rows_that_parts_of_claims_leave_out_are_noticed(tmp_path: Path) -> None:
    """In a column of ours, and in one of which cells are listed that are none of ours; not where a column has no number."""
    page = "| a | 2.33 (1.00–4.00) | 1.73 |\n| b | 5.00 | – |\n"
    others = {"columns": {"mean (range)": []}, "cells": {"a": {"mean (range)": "2.33 (1.00–4.00)"}}, "partial": True}
    for claim in ({**RANGE, "partial": True}, others):
        with pytest.raises(RunError, match=r"column 'mean \(range\)': no claim about the table lists them: 1 of 2 .* such as '5\.00'"):
            check(columned(tmp_path, claim, {**AT, "partial": True}, page=page))


def only(folder: Path, quantities: list[dict[str, Any]], cell: str, row: str = "a") -> str:
    """What `check` finds in a table whose one claimed cell is this one."""
    told = {"columns": {"mean (range)": quantities, "at 200": []}, "cells": {row: {"mean (range)": cell}}}
    try:
        check(columned(folder, told, page=f"| {row} | {cell} | 1 |\n"))
    except RunError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("size", "give", "cell", "words"),
    [
        (400, ["mean", "min", "max"], "1.00", ""),
        (400, ["mean", "pstdev"], "1.00 (one run)", ""),
        (100, ["mean", "pstdev"], "3.00", "prints '3.00', the records say 1 as well"),
        (100, ["each"], "4 / 2", ""),
        (100, ["each"], "4", "prints '4', the records say 2 as well"),
    ],
)
def test_a_cell_may_leave_out_what_tells_nothing(tmp_path: Path, size: int, give: list[str], cell: str, words: str) -> None:
    """The ends of a range that is one number, and a spread of 0; no number of a list."""
    found = only(tmp_path, [{"number": "error", "times": 100, "give": give, "where": {"size": size}}], cell)
    assert words in found
    assert bool(words) == bool(found)


def test_none_of_a_rows_entries_can_be_counted(tmp_path: Path) -> None:
    """A row that has no entries at all is no 0."""
    counts = [{"give": ["count"], "where": {"size": 7}}, {"give": ["count"]}]
    assert not only(tmp_path, counts, "0 of 3")
    assert "c, mean (range): no entry fits" in only(tmp_path, counts, "0 of 3", row="c")


def test_a_row_that_is_set_against_nothing_has_no_relative_number(tmp_path: Path) -> None:
    quantities = [{"number": "error", "times": 100}, {"number": "error", "relative": True}]
    assert not only(tmp_path, quantities, "2.33")
    assert "more numbers than the 1 that the claim explains" in only(tmp_path, quantities, "2.33 (2)")


def test_a_row_without_a_claim_is_noticed(tmp_path: Path) -> None:
    path = planted(tmp_path, {})
    page = path.parent / "page.md"
    page.write_text(page.read_text() + "| b | 1 | 1 |\n")
    with pytest.raises(RunError, match=r"b: page\.md prints a row without a claim"):
        check(path)


def test_rows_that_a_table_prints_twice_are_noticed(tmp_path: Path) -> None:
    """Of a pair only the last one was looked at."""
    path = planted(tmp_path, {})
    page = path.parent / "page.md"
    page.write_text(page.read_text().replace("| a |", "| a | 9.99 (9.00–9.99) | 9.99 |\n| a |"))
    with pytest.raises(RunError, match=r"a: page\.md prints 2 such rows"):
        check(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": {"at 300": "1.73"}}, "the row 'a' has a cell for 'at 300', which is none of the columns"),
        ({"match": {"method": "method", "size": "size"}}, "the row 'a' needs as many texts"),
        (
            {"columns": {"at 200": [{"number": "error", "at": {"size": 200, "error": 1}}]}},
            "claims.0.columns.at 200.0.at: Dictionary should",
        ),
    ],
)
def test_a_claim_that_explains_no_cell_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(planted(tmp_path, change.pop("cell", {}), **change))
    assert words in str(caught.value)


def test_one_document_under_two_names_keeps_both_changes(tmp_path: Path) -> None:
    """The second claim about it undid what the first one wrote."""
    path = planted(tmp_path, {})
    (claim,) = yaml.safe_load(path.read_text())["claims"]
    both = [
        {**claim, "columns": {name: claim["columns"][name]}, "cells": {"a": {name: claim["cells"]["a"][name]}}, "documents": [document]}
        for name, document in (("mean (range)", "page.md"), ("at 200", f"../{tmp_path.name}/page.md"))
    ]
    path.write_text(yaml.safe_dump({"claims": both}, allow_unicode=True))
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [{**row, "error": 2 * row["error"]} for row in ROWS]}))
    rewrite(path)
    check(path)


def test_records_that_are_gone_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No record fits other\.json"):
        check(planted(tmp_path, {}, source="other.json"))


def test_what_is_no_claims_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Cannot read the claims"):
        check(tmp_path / "absent.yaml")
    (tmp_path / "claims.yaml").write_text("- 1\n")
    with pytest.raises(UsageError, match="no file of claims"):
        check(tmp_path / "claims.yaml")
    with pytest.raises(UsageError, match="wrong"):
        check(planted(tmp_path, {}, wrong=1))


def test_numbers_are_read_with_half_a_unit_of_their_last_digit() -> None:
    assert numbers("2.08 (1.90–2.17)") == [(2.08, 0.005), (1.9, 0.005), (2.17, 0.005)]
    assert numbers("43,933") == [(43933.0, 0.5)]
    assert numbers("3.19e+11") == [(3.19e11, pytest.approx(5e8))]
    assert numbers("0.76 ± 0.07 (3)") == [(0.76, 0.005), (0.07, 0.005), (3.0, 0.5)]
    assert numbers("–") == []
    assert [number for number, _ in numbers("47-42 ; -0.03, -.5")] == [47, 42, -0.03, -0.5]


def test_a_table_is_found_by_words_before_it_or_in_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\n\n| a |\n|---|\n| 1 |\n\ntwo\n\n| b |\n|---|\n| Σ\\|w\\| |\n")
    assert table_after(page, "two").body == (("Σ|w|",),)
    assert table_after(page, "| 1 |").head == ("a",)
    with pytest.raises(DataError, match="no line with 'three'"):
        table_after(page, "three")


def test_rewriting_changes_nothing_where_all_holds(tmp_path: Path) -> None:
    stored = planted(tmp_path, {})
    before = (stored.read_bytes(), (tmp_path / "page.md").read_bytes())
    assert rewrite(stored) == "0 cells of 0 tables and 0 numbers of running text were rewritten."
    assert (stored.read_bytes(), (tmp_path / "page.md").read_bytes()) == before


def test_rewriting_follows_the_records_in_claims_and_documents(tmp_path: Path) -> None:
    stored = planted(tmp_path, {})
    stored.write_text(f"# a comment\n{stored.read_text()}")
    rows = [*ROWS[:2], {"method": "a", "size": 400, "error": 0.0025, "strength": 400}]
    (tmp_path / "rows.json").write_text(json.dumps({"rows": rows}))
    with pytest.raises(RunError, match="do not hold"):
        check(stored)
    assert rewrite(stored) == "2 cells of 1 tables and 0 numbers of running text were rewritten."
    check(stored)
    page = (tmp_path / "page.md").read_text()
    assert page == "# Page\n\n| method | mean (range) | at 200 |\n|---|---|---|\n| a | 2.08 (0.25–4.00) | 0.87 |\n"
    assert stored.read_text().startswith("# a comment\n")


ANEW = """| method | mean (range) | at 200 |
|---|---|---|
| b | 1.00 (1.00–1.00) | – |
| a | 2.33 (1.00–4.00) | 1.73 |"""


def test_claims_follow_a_table_with_new_rows(tmp_path: Path) -> None:
    """Rows come and go in the order of the table; comments and the claims around it keep their bytes."""
    stored, page = planted(tmp_path, {}), tmp_path / "page.md"
    one = stored.read_text().removeprefix("claims:\n")
    stored.write_text(f"# a comment\nclaims:\n{one.replace('a is good', 'another').replace('page.md', 'other.md')}# between\n{one}")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [*ROWS, {"method": "b", "size": 100, "error": 0.01, "strength": 1}]}))
    page.write_text("# Page\n<!-- table t -->\nold\n<!-- end -->\nbelow\n")
    before = stored.read_text()
    put_tables(stored, page, {"t": ANEW})
    after = stored.read_text()
    assert [list(claim["cells"]) for claim in yaml.safe_load(after)["claims"]] == [["a"], ["b", "a"]]
    assert after[: after.index("# between")] == before[: before.index("# between")]
    (tmp_path / "other.md").write_text(f"# Page\n{ANEW.replace('| b | 1.00 (1.00–1.00) | – |', '')}".replace("|\n\n|", "|\n|"))
    check(stored)
    redraft(stored, "page.md")
    assert stored.read_text() == after
    page.write_text(page.read_text().replace("1.00 (1.00–1.00)", "2.00 (2.00–2.00)"))
    redraft(stored, "page.md")
    with pytest.raises(RunError, match="prints 2 in"):
        check(stored)


def test_a_partial_claim_gets_no_new_rows(tmp_path: Path) -> None:
    stored, page = planted(tmp_path, {}, partial=True), tmp_path / "page.md"
    page.write_text(f"# Page\n{ANEW.replace('1.73', '1.7')}\n")
    redraft(stored, "page.md")
    (claim,) = yaml.safe_load(stored.read_text())["claims"]
    assert claim["cells"] == {"a": {"mean (range)": "2.33 (1.00–4.00)", "at 200": "1.7"}}


def test_a_table_needs_one_place(tmp_path: Path) -> None:
    assert with_tables("a\n<!-- table t -->\nold\n<!-- end -->\nb\n", {"t": "| x |"}, "page") == (
        "a\n<!-- table t -->\n\n| x |\n\n<!-- end -->\nb\n"
    )
    for text in ("nothing", 2 * "<!-- table t -->\n<!-- end -->\n"):
        with pytest.raises(DataError, match="places for the table 't'"):
            with_tables(text, {"t": "| x |"}, "page")


@pytest.mark.parametrize(
    ("printed", "wanted", "text"),
    [
        ("2.08 (1.90–2.17)", (2.5, 1.9, 3.0), "2.50 (1.90–3.00)"),
        ("43,933", (1234567.0,), "1,234,567"),
        ("3.19e+11", (4.2e11,), "4.20e+11"),
        ("1e-3", (0.002,), "2e-3"),
        (".05", (0.123,), ".12"),
        ("-.05", (-0.5,), "-.50"),
        (".95", (10.25,), "10.25"),
        ("**1.49** at last", (1.25,), "**1.25** at last"),
        ("1.494", (1.4941,), "1.494"),
        ("–", (), "–"),
    ],
)
def test_a_number_keeps_its_form(printed: str, wanted: tuple[float, ...], text: str) -> None:
    assert restated(printed, [(value, None) for value in wanted]) == text


def test_a_number_within_its_tolerance_stays() -> None:
    assert restated("1.5 and 1.5", [(1.6, 0.2), (1.8, 0.2)]) == "1.5 and 1.8"
