"""What every training of a suite must have done alike, and the objections where one has not."""

from collections.abc import Mapping, Sequence
from typing import Any

from parsinet.bench.watch import Watch


def ledger(watch: Watch, steps: int, examples: int) -> dict[str, Any]:
    """What a training did beside what it was allowed to do, for its record."""
    done = {"steps": watch.steps, "examples": watch.examples, "order": watch.order, "met": watch.met}
    return {**done, "allowed_steps": steps, "allowed_examples": examples}


def objections(told: Mapping[str, Any]) -> list[str]:
    """What one training did against the protocol, in words."""
    found = []
    if told["steps"] != told["allowed_steps"]:
        found.append(f"took {told['steps']:,} optimizer steps, {told['allowed_steps']:,} are allowed")
    if told["examples"] != told["allowed_examples"]:
        found.append(f"trained on {told['examples']:,} examples, {told['allowed_examples']:,} are allowed")
    if told["met"]:
        found.append(f"met {told['met']:,} examples of the test split before its end")
    return found


def strangers(events: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
    """Trainings that saw other batches than most of the same kind and seed, and what is said of them."""
    orders: dict[tuple[str, int], list[str]] = {}
    trained = [event for event in events if event["event"] in ("row", "trial")]
    for event in trained:
        orders.setdefault((event["event"], event["seed"]), []).append(event["protocol"]["order"])
    usual = {key: max(dict.fromkeys(each), key=each.count) for key, each in orders.items()}
    words = "saw other batches, or in another order, than the other rows of seed {}"
    return [(event, words.format(event["seed"])) for event in trained if event["protocol"]["order"] != usual[event["event"], event["seed"]]]
