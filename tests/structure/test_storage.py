"""Saving and loading: what is damaged is refused in one sentence, and a failing write keeps the old save."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import parsinet as pn
from networks import call, make, traced
from parsinet.errors import ParsinetWarning, StorageError, StructureError
from parsinet.structure import storage
from parsinet.structure.record import StructureRecord, from_ranges, record_of, to_ranges


def small(name: str = "mlp") -> tuple[nn.Module, object]:
    """A network that has lost every third unit of every removable group."""
    model, x, structure = traced(name)
    pn.shrink(model, structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()}))
    return model.eval(), x


def factory() -> nn.Module:
    return make("mlp")[0]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pn.save(small()[0], tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["model.safetensors", "structure.json"])
def test_a_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    with pytest.raises(StorageError, match=file):
        pn.load(saved, factory)


@pytest.mark.parametrize("file", ["model.safetensors", "structure.json"])
def test_a_truncated_file_is_refused(saved: Path, file: str) -> None:
    content = (saved / file).read_bytes()
    (saved / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError, match="damaged"):
        pn.load(saved, factory)


def test_one_flipped_byte_is_noticed(saved: Path) -> None:
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(StorageError, match="does not match its checksum"):
        pn.load(saved, factory)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": 99, "weights": {}}', "null", "3"])
def test_a_foreign_json_is_refused(saved: Path, content: str) -> None:
    (saved / "structure.json").write_text(content)
    with pytest.raises((StorageError, StructureError)):
        pn.load(saved, factory)


@pytest.mark.parametrize("key", ["tensors", "sizes", "attributes", "units", "removals", "shared", "weights"])
@pytest.mark.parametrize("value", [3, "x", [1], {"fc1.weight": {"0": "a-b"}}, {"nobody": {"0": "0-3"}}])
def test_a_damaged_record_never_ends_in_a_traceback(saved: Path, key: str, value: object) -> None:
    """Whatever stands in an entry: either our own error or, where the entry does not matter, the right network."""
    record = json.loads((saved / "structure.json").read_text())
    del record["sha256"]
    record[key] = value
    (saved / "structure.json").write_text(json.dumps(record))
    try:
        loaded = pn.load(saved, factory)
    except (StorageError, StructureError):
        return
    assert {name: t.shape for name, t in loaded.state_dict().items()} == {name: t.shape for name, t in small()[0].state_dict().items()}


@pytest.mark.parametrize("key", ["format", "tensors", "sizes", "units", "removals", "shared", "weights", "sha256"])
def test_an_edited_record_is_refused(saved: Path, key: str) -> None:
    record = json.loads((saved / "structure.json").read_text())
    record[key] = [] if key == "removals" else "0"
    (saved / "structure.json").write_text(json.dumps(record))
    with pytest.raises(StorageError, match="does not match its own checksum"):
        pn.load(saved, factory)


def test_a_flipped_bit_of_the_record_never_changes_what_is_loaded(saved: Path) -> None:
    whole = (saved / "structure.json").read_bytes()
    told = json.loads(whole)
    for position in range(0, len(whole), 7):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        (saved / "structure.json").write_bytes(content)
        try:
            record, _ = storage.read(saved)
        except (StorageError, StructureError):
            continue
        assert record.to_json().items() <= told.items()


def test_ranges_that_fill_the_memory_are_refused(saved: Path) -> None:
    record = json.loads((saved / "structure.json").read_text())
    del record["sha256"]
    record["units"]["fc1"] = "0-999999999999"
    (saved / "structure.json").write_text(json.dumps(record))
    with pytest.raises(StructureError, match="0-999999999999 are too many"):
        pn.load(saved, factory)


def test_a_save_that_ends_between_its_files_leaves_the_new_network(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, structure = traced("mlp")
    pn.shrink(model, structure.plan({"fc1": torch.arange(structure.group("fc1").size) % 2 == 0}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        pn.save(model, saved)
    monkeypatch.undo()
    with pytest.warns(ParsinetWarning, match=r"is newer than structure\.json"):
        loaded = pn.load(saved, factory)
    assert torch.equal(loaded.eval()(x), model.eval()(x))
    assert record_of(loaded) == record_of(model)
    pn.save(model, saved)
    assert torch.equal(pn.load(saved, factory).eval()(x), model(x))


def test_the_same_network_is_the_same_bytes_and_safetensors_reads_it(tmp_path: Path) -> None:
    model = small("gpt")[0]
    for folder in ("one", "two"):
        pn.save(model, tmp_path / folder)
    one, two = (tmp_path / folder / "model.safetensors" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with safe_open(one, "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert set(file.keys()) == set(model.state_dict()) - {"head.weight"}


def test_a_compiled_network_is_saved_under_its_own_names(saved: Path, tmp_path: Path) -> None:
    pn.save(torch.compile(small()[0], backend="eager"), tmp_path / "compiled")
    for file in ("model.safetensors", "structure.json"):
        assert (tmp_path / "compiled" / file).read_bytes() == (saved / file).read_bytes()


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_numbers_come_back_in_the_type_they_were_saved_in(tmp_path: Path, kind: torch.dtype) -> None:
    model = small("branches")[0].to(kind)
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: make("branches")[0])
    assert {name: (t.dtype, t.shape) for name, t in loaded.state_dict().items()} == {
        name: (t.dtype, t.shape) for name, t in model.state_dict().items()
    }
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_the_wrong_factory(saved: Path) -> None:
    with pytest.raises(StructureError, match="must build the original architecture"):
        pn.load(saved, lambda: make("lenet-300-100")[0])
    with pytest.raises(StructureError, match=r"must return an nn\.Module, got dict"):
        pn.load(saved, dict)  # type: ignore[arg-type]


def test_a_network_already_small_is_not_the_original(saved: Path) -> None:
    with pytest.raises(StructureError, match="before anything was removed"):
        pn.load(saved, lambda: small()[0])


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="Cannot write"):
        pn.save(small()[0], tmp_path / "taken")
    with pytest.raises(StorageError):
        pn.load(tmp_path / "taken", factory)


def test_the_old_save_survives_a_failing_write(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, x = small()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        pn.save(small()[0].double(), saved)
    monkeypatch.undo()
    assert torch.equal(pn.load(saved, factory).eval()(x), old(x))
    assert sorted(file.name for file in saved.iterdir()) == ["model.safetensors", "structure.json"]


def test_tied_tensors_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    model, x = small("gpt")
    pn.save(model, tmp_path)
    record = json.loads((tmp_path / "structure.json").read_text())
    assert record["shared"] == {"head.weight": "token.weight"}
    loaded = pn.load(tmp_path, lambda: make("gpt")[0]).eval()
    assert loaded.head.weight is loaded.token.weight
    assert torch.equal(call(loaded, x), call(model, x))


def test_views_of_one_storage_are_stored_as_they_are(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight.data = model[0].weight.data.t()
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    assert torch.equal(loaded[1].weight, model[0].weight.t())
    assert torch.equal(loaded[0].weight, model[0].weight)


def test_numbers_that_the_file_has_no_type_for(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("phase", torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(StructureError, match=r"'phase' is torch\.complex128, which safetensors cannot hold\. Keep it as complex64"):
        pn.save(model, tmp_path / "net")
    assert not (tmp_path / "net" / "model.safetensors").exists()


def test_equal_memory_layouts_of_different_slices(tmp_path: Path) -> None:
    store = torch.randn(2, 3)
    model = nn.Module()
    model.register_buffer("a", store[0])
    model.register_buffer("b", store[1])
    model.register_buffer("empty", torch.empty(0))
    model.register_buffer("none", torch.empty(0))
    pn.save(model, tmp_path)

    def build() -> nn.Module:
        fresh = nn.Module()
        for name in ("a", "b"):
            fresh.register_buffer(name, torch.zeros(3))
        for name in ("empty", "none"):
            fresh.register_buffer(name, torch.empty(0))
        return fresh

    assert torch.equal(pn.load(tmp_path, build).b, store[1])


def test_a_loaded_network_shrinks_and_saves_again(tmp_path: Path) -> None:
    pn.save(small("branches")[0], tmp_path / "one")
    loaded = pn.load(tmp_path / "one", lambda: make("branches")[0]).eval()
    x = make("branches")[1]
    structure = pn.trace(loaded, x)
    pn.shrink(loaded, structure.plan({"left": [True, False, *[True] * (structure.group("left").size - 2)]}))
    pn.save(loaded, tmp_path / "two")
    again = pn.load(tmp_path / "two", lambda: make("branches")[0]).eval()
    assert torch.equal(again(x), loaded(x))
    assert len(record_of(again).removals) == 2


def test_replay_changes_nothing_where_the_record_does_not_fit() -> None:
    record = record_of(small()[0])
    model = make("lenet-300-100")[0]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(StructureError):
        pn.structure.replay(model, record)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not record_of(model).removals


def test_records_through_json_are_themselves() -> None:
    record = record_of(small("tiny-vit")[0])
    again = StructureRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert json.dumps(again.to_json()) == json.dumps(record.to_json())


@pytest.mark.parametrize("numbers", [[], [0], [3, 4, 5], [0, 2, 4], [0, 1, 5, 7, 8, 9]])
def test_ranges(numbers: list[int]) -> None:
    assert from_ranges(to_ranges(numbers)) == numbers


@pytest.mark.parametrize("method", [pn.methods.Gates(theta=0.5, seed=1), pn.baselines.VIB()], ids=["gates", "vib"])
def test_a_network_with_gates_at_work_is_saved_with_a_warning(tmp_path: Path, method: pn.methods.Method) -> None:
    model, x = make("mlp")
    pruner = pn.Pruner(model, torch.optim.SGD(method.param_groups(model), lr=0.1), method, x, steps=10)
    with pytest.warns(ParsinetWarning, match=r"gates are not in the files.*pruner\.finish\(\)"):
        pn.save(model, tmp_path)
    model.train()
    assert not torch.allclose(pn.load(tmp_path, factory).train()(x), model(x))
    lean = pruner.finish()
    pn.save(lean, tmp_path)
    assert torch.equal(pn.load(tmp_path, factory).eval()(x), lean.eval()(x))


class Detector(nn.Module):
    """A backbone that can be traced in a network that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 5)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def every_second(model: nn.Module) -> None:
    structure = pn.trace(model, torch.randn(2, 6))
    pn.shrink(model, structure.plan({group.name: torch.arange(group.size) % 2 == 0 for group in structure.removable()}))


@pytest.mark.parametrize("order", ["part", "part, whole", "whole, part", "part, part, whole", "whole, part, whole", "part, whole, part"])
def test_what_a_part_lost_on_its_own_is_saved_with_the_whole(tmp_path: Path, order: str) -> None:
    torch.manual_seed(0)
    model, x = Detector(), torch.randn(4, 6)
    for which in order.split(", "):
        every_second(model if which == "whole" else model.body)
    pn.save(model, tmp_path / "lean")
    again = pn.load(tmp_path / "lean", Detector)
    assert torch.equal(again(x), model(x))
    every_second(again)
    pn.save(again, tmp_path / "leaner")
    assert torch.equal(pn.load(tmp_path / "leaner", Detector)(x), again(x))


def test_the_network_in_a_wrapper_is_saved_without_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Detector(), torch.randn(4, 6)
    every_second(nn.Sequential(nn.Identity(), model))
    pn.save(model, tmp_path / "lean")
    again = pn.load(tmp_path / "lean", Detector)
    assert torch.equal(again(x), model(x))
    every_second(model)
    pn.save(model.body, tmp_path / "body")
    pn.save(copy.deepcopy(model), tmp_path / "copy")
    assert torch.equal(pn.load(tmp_path / "body", lambda: Detector().body)(x), model.body(x))
    assert torch.equal(pn.load(tmp_path / "copy", Detector)(x), model(x))


def test_tied_tensors_and_layers_are_found_under_every_name(tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        first, last = nn.Embedding(7, 12), nn.Linear(12, 7, bias=False)
        last.weight = first.weight
        return nn.ModuleDict({"first": first, "inner": nn.Sequential(nn.Linear(12, 12), last)})

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        def forward(self, x: Tensor) -> Tensor:
            return self.net["inner"](self.net["first"](x))

    model, x = Tied(), torch.randint(7, (2, 3))
    structure = pn.trace(model, x)
    pn.shrink(model, structure.plan({structure.removable()[0].name: torch.arange(12) < 5}))
    for name, part in (("net", model.net), ("inner", model.net["inner"])):
        pn.save(part, tmp_path / name)
        again = pn.load(tmp_path / name, build if name == "net" else lambda: build()["inner"])
        assert all(torch.equal(one, other) for one, other in zip(again.parameters(), part.parameters(), strict=True))


class _Scaled(nn.Module):
    """A residual branch behind a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.last = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + self.scale * self.branch(h))  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_stands_in_for_a_parameter_has_the_type_of_the_others(tmp_path: Path, dtype: torch.dtype) -> None:
    model, x = _Scaled().to(dtype), torch.randn(3, 5, dtype=dtype)
    structure = pn.trace(model, x, blocks=True)
    (block,) = [group for group in structure.blocks if group.removable]
    pn.shrink(model, structure.plan({block.name: torch.tensor([False])}))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, _Scaled)
    assert loaded.scale.dtype == dtype
    assert torch.equal(loaded(x), model(x))
