"""The price of a gate and the rest of each group, in words."""

import json
import math
from pathlib import Path

from parsinet.report.decided import decided
from parsinet.report.reading import read


def changed(folder: Path, change) -> Path:
    path = folder / "record.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_one_price_is_told_as_what_a_unit_is_worth(gates: Path) -> None:
    price, rest = decided(read(gates))
    assert price == "a unit stayed if without it the probability of the right answer fell by more than 0.1 % (0.001 nats per example)."
    assert rest == "the last unit left inputs 784 → 512 in epoch 16, fc1 300 → 56 in epoch 16, fc2 100 → 42 in epoch 15."


def test_a_large_price_is_no_percentage_of_its_own_number(gates: Path) -> None:
    def dear(event: dict) -> None:
        if "price" in event.get("method", {}):
            event["method"]["price"] = math.log(2)

    assert "by more than 50 % (0.69 nats per example)" in decided(read(changed(gates, dear)))[0]


def test_prices_that_move_are_told_at_both_ends(gates: Path) -> None:
    def moving(event: dict) -> None:
        if "price" in event.get("method", {}):
            event["method"]["price"] = 1e-4 * event["epoch"]

    words = decided(read(changed(gates, moving)))[0]
    assert words.endswith("after the first epoch, by 0.01 % (0.0001 nats per example).")
    assert "fell by more than 0.2 % (0.002 nats per example);" in words


def test_groups_that_pay_different_prices_are_told_apart(gates: Path) -> None:
    def priced(event: dict) -> None:
        for place, facts in enumerate(event.get("method", {}).get("groups", {}).values(), 1):
            facts["price"] = 1e-3 * place

    first, by_group, *_ = decided(read(changed(gates, priced)))
    assert first.startswith("a unit stayed if without it the probability of the right answer fell by more than its price")
    assert by_group.startswith("a unit then paid 0.1 % (0.001 nats per example) in inputs, 0.2 % (0.002 nats per example) in fc1, 0.3 %")


def test_of_many_groups_the_dearest_and_the_cheapest_are_told(gates: Path) -> None:
    def priced(event: dict) -> None:
        if "groups" in event.get("method", {}):
            theta = next(iter(event["method"]["groups"].values()))["theta"]
            event["method"]["groups"] = {f"g{k}": {"theta": theta, "price": 1e-3 * (k + 1)} for k in range(9)}

    words = decided(read(changed(gates, priced)))[1]
    assert words == "a unit then paid most in g8, 0.9 % (0.009 nats per example), and least in g0, 0.1 % (0.001 nats per example)."


def test_the_epoch_is_the_one_in_which_the_last_unit_left(gates: Path) -> None:
    def early(event: dict) -> None:
        if event["event"] == "removal" and event["step"] > 650:
            event["groups"].pop("fc2", None)

    assert "fc2 100 → " in (words := decided(read(changed(gates, early)))[1])
    assert words.endswith("in epoch 7.")


def test_many_groups_are_told_by_the_first_and_the_last(deep: Path) -> None:
    words = decided(read(deep))[-1]
    assert words.startswith("units left 20 groups; the first to come to rest was ")


def test_a_dense_run_has_nothing_to_tell(dense: Path) -> None:
    assert decided(read(dense)) == []
