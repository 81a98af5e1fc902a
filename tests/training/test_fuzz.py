"""Readers fed with anything: what comes out is an error of parsinet or a value, never a traceback of something below."""

from __future__ import annotations

import contextlib
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

import parsinet as pn
from parsinet.data.idx import read_idx
from parsinet.errors import ParsinetError, RunError
from parsinet.training import Recipe, load_checkpoint, load_recipe, read_record, save_checkpoint
from parsinet.training.codec import decode
from parsinet.training.manifest import MANIFEST, make
from parsinet.training.snapshot import foreign

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(["digits", "gates", "adam"]))
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=8
)
many = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(name: str, content: bytes, reader: Callable[[Path], Any]) -> Any:
    """What the reader makes of a file with that content; None where it refuses it as parsinet does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with contextlib.suppress(ParsinetError):
            return reader(path)
    return None


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file cut short, with bytes changed, or with others put in."""
    places = st.integers(0, max(len(whole) - 1, 0))
    cut = places.map(lambda end: whole[:end])
    changed = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4).map(lambda edits: _changed(whole, edits))
    put = st.tuples(places, st.binary(max_size=6)).map(lambda edit: whole[: edit[0]] + edit[1] + whole[edit[0] :])
    return cut | changed | put


def _changed(whole: bytes, edits: list[tuple[int, int]]) -> bytes:
    content = bytearray(whole)
    for place, byte in edits:
        content[place] = byte
    return bytes(content)


RECIPE = b"data: {source: digits, batch_size: 32}\nepochs: 3\noptimizer: {name: sgd, lr: 3e-4}\nschedule: {kind: steps, steps: [[2, 1e-4]]}"


@many
@given(st.one_of(st.binary(max_size=60), damaged(RECIPE), st.text(max_size=40).map(str.encode)))
@example(b"[" * 5000)
@example(b"a: 2020-99-99")
@example(b"a: !!timestamp x")
@example(b"a: !!int x")
@example(b"a: 0x_")
@example(b"a: " + b"9" * 5000)
@example(b"{? [1]: 2}")
@example(b"&a {b: *a}")
@example(b"&a [*a]")
@example(b"method: &a {name: gates, b: *a}")
@example(b"<<: 3")
@example(b"a: !!python/object/apply:os.getcwd []")
def test_recipes(content: bytes) -> None:
    assert isinstance(read("recipe.yaml", content, load_recipe), Recipe | None)


@many
@given(st.dictionaries(st.sampled_from(["data", "model", "method", "optimizer", "schedule", "checkpoint", "epochs", "skips"]), trees))
def test_recipes_of_any_values(values: dict[str, Any]) -> None:
    assert isinstance(read("recipe.yaml", yaml.safe_dump(values).encode(), load_recipe), Recipe | None)


RECORD = b'{"event": "start", "format": 1}\n{"event": "epoch", "step": 3, "loss": 0.5}\n'


@many
@given(st.binary(max_size=60) | damaged(RECORD))
@example(b"[" * 100_000 + b"\n")
@example(b'{"event": ' + b"9" * 5000 + b"}\n")
@example(b'{"event": "start", "format": {}}\n')
def test_records(content: bytes) -> None:
    events = read("record.jsonl", content, read_record)
    assert events is None or all(isinstance(event["event"], str) for event in events)


STATE = {"recipe": {}, "weight": torch.ones(3), "pair": (1, float("inf")), "table": {0: "x"}}


def checkpoint() -> dict[str, bytes]:
    """The files of one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        return {path.name: path.read_bytes() for path in save_checkpoint(Path(folder), 3, STATE).iterdir()}


FILES = checkpoint()


def load(files: dict[str, bytes]) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "000001-step-3"
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        try:
            return load_checkpoint(Path(folder)).state
        except RunError:
            return None


@many
@given(st.data())
def test_any_change_of_a_checkpoint_is_noticed(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    content = data.draw(damaged(FILES[name]) | st.binary(max_size=40))
    state = load({**FILES, name: content})
    assert state is None or content == FILES[name] or json.loads(content) == json.loads(FILES[name])


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == MANIFEST else pytest.mark.slow) for name in sorted(FILES)])
def test_every_flipped_bit_is_noticed(name: str) -> None:
    content = FILES[name]
    for place in range(len(content) if name == MANIFEST else min(len(content), 400)):
        assert load({**FILES, name: _changed(content, [(place, content[place] ^ 1 << place % 8)])}) is None, place


@many
@given(trees | st.binary(max_size=30), st.binary(max_size=40) | st.just(FILES["tensors.safetensors"]))
def test_states_of_anyone_with_a_right_manifest(tree: Any, tensors: bytes) -> None:
    """Checksums do not help against who makes them."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    contents = {"state.json": text, "tensors.safetensors": tensors}
    state = load({**contents, MANIFEST: make(3, None, contents)})
    assert state is None or isinstance(state, dict)


@many
@given(trees, st.sampled_from(["$tensor", "$tuple", "$items", "$float", "$x"]))
def test_trees_that_nobody_encoded(tree: Any, tag: str) -> None:
    with contextlib.suppress(RunError):
        assert decode({"a": {tag: tree}}, {}).keys() == {"a"}


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    torch.save({"weight": Bomb()}, tmp_path / "pickle.pt")
    for bomb in (pickle.dumps(Bomb()), (tmp_path / "pickle.pt").read_bytes()):
        contents = {"state.json": FILES["state.json"], "tensors.safetensors": bomb}
        assert load({**contents, MANIFEST: make(3, None, contents)}) is None
        assert load({**FILES, "state.json": bomb}) is None
    assert not (tmp_path / "exploded").exists()


@many
@given(trees)
def test_a_state_of_another_kind_is_foreign(tree: Any) -> None:
    assert foreign({"recipe": tree}, Recipe())


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def saved() -> dict[str, bytes]:
    model = small()
    structure = pn.trace(model, torch.zeros(2, 4))
    pn.shrink(model, structure.plan({structure.removable()[0].name: torch.tensor([True, False] * 3)}))
    with tempfile.TemporaryDirectory() as folder:
        pn.save(model, folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def network() -> dict[str, bytes]:
    return saved()


@settings(many, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_structures(network: dict[str, bytes], data: st.DataObject) -> None:
    record = json.loads(network["structure.json"])
    key = data.draw(st.sampled_from(sorted(record)))
    other = json.dumps({**record, key: data.draw(trees)}).encode()
    content = data.draw(damaged(network["structure.json"]) | st.just(other))
    with tempfile.TemporaryDirectory() as folder:
        for name, whole in {**network, "structure.json": content}.items():
            (Path(folder) / name).write_bytes(whole)
        with contextlib.suppress(ParsinetError):
            assert isinstance(pn.load(folder, small), nn.Module)


words = st.sampled_from(["", "0", "2", "3", "0.weight", "2.bias", "in_features", "__class__", "zero", "-1", "0-2", "0,2", "a.b", "."])
phrases = st.recursive(scalars | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6)
ENTRIES = ("absent", "attributes", "bare", "merges", "removals", "shared", "sizes", "tensors", "units", "weights")


@settings(many, suppress_health_check=list(HealthCheck))
@given(changed=st.dictionaries(st.sampled_from(ENTRIES), phrases | st.dictionaries(words, phrases, max_size=2), min_size=1, max_size=3))
@example(changed={"attributes": {"3": []}})
@example(changed={"tensors": {"3": {"3": 0}}})
def test_structures_in_their_own_words(network: dict[str, bytes], changed: dict[str, Any]) -> None:
    record = json.loads(network["structure.json"])
    del record["sha256"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.safetensors").write_bytes(network["model.safetensors"])
        (Path(folder) / "structure.json").write_text(json.dumps({**record, "format": 3, **changed}))
        with contextlib.suppress(ParsinetError):
            assert isinstance(pn.load(folder, small), nn.Module)


IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02" + bytes(range(8))


@many
@given(st.binary(max_size=40) | damaged(IDX) | st.binary(max_size=20).map(lambda rest: b"\x1f\x8b" + rest))
@example(b"\0\0\x08\x03" + b"\xff" * 12)
def test_idx(content: bytes) -> None:
    tensor = read("images", content, lambda path: read_idx(path, 3))
    assert tensor is None or tensor.dim() == 3


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from parsinet.data.parquet import read_parquet

    table = pyarrow.table({"a": [float(k) for k in range(20)], "label": [k % 2 for k in range(20)]})
    parquet.write_table(table, tmp_path / "table.parquet")
    whole = (tmp_path / "table.parquet").read_bytes()

    @settings(many, max_examples=80)
    @given(st.binary(max_size=40) | damaged(whole))
    def check(content: bytes) -> None:
        read("table.parquet", content, lambda path: read_parquet(path, 0))

    check()
