"""Whole residual branches: the laws of removal on every way of adding them, and each law seen to fail on a planted fault."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

import networks
import parsinet as pn
from architectures import huggingface, residual
from networks import Inputs, call, flat
from parsinet.errors import StructureError, UsageError
from parsinet.structure.blocks import beneath_any, owners, within_any
from parsinet.structure.blocks_absent import Absent
from parsinet.structure.calling import results
from parsinet.structure.plan import Plan
from parsinet.structure.traced import Structure

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""

OWN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bottlenecks": (residual.Bottlenecks, (2, 3, 7, 9)),
    "preactivation": (residual.PreActivation, (2, 2, 7, 10)),
    "partial": (residual.Partial, (2, 2, 7, 9)),
    "post-norm": (residual.PostNorm, (2, 6, 5)),
    "parallel": (residual.Parallel, (3, 5)),
    "shared": (residual.Shared, (3, 4)),
    "nested": (residual.Nested, (3, 4)),
    "residual-mlp": (residual.ResidualMLP, (3, 6)),
}
QUICK = ("convnext", "torch-encoder")
TABLE = (
    "tiny-vit",
    "torch-seq2seq",
    "resnet-20",
    "resnext",
    "mobilenet",
    "mixer",
    "char-gpt",
    "nano-gpt",
    "windows",
    "res2net",
    "grouped-query",
    "perceiver",
)
CASES = pytest.mark.parametrize("name", [*OWN, *QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in TABLE)])


@cache
def build(name: str) -> tuple[nn.Module, Inputs]:
    """The network in float64 and evaluation mode, every tensor random, and its inputs."""
    if name not in OWN:
        model, inputs = networks.make(name)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            make, shape = OWN[name]
            model, inputs = make(), torch.randn(*shape)
            for tensor in [*model.parameters(), *model.buffers()]:
                if tensor.is_floating_point() and tensor.dim() == 1:
                    tensor.data = torch.rand_like(tensor) + 0.5
    return model.double().eval(), tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, inputs)


@cache
def traced(name: str) -> Structure:
    return pn.trace(*build(name), blocks=True)


def get(name: str) -> tuple[nn.Module, Any, Structure]:
    model, inputs = build(name)
    return copy.deepcopy(model), inputs, traced(name)


def removable(structure: Structure) -> list[str]:
    return [block.name for block in structure.blocks if block.removable]


def leave(names: list[str]) -> dict[str, Tensor]:
    return {name: torch.tensor([False]) for name in names}


def units(structure: Structure, seed: int) -> dict[str, Tensor]:
    """A random mask for every exact group."""
    generator = torch.Generator().manual_seed(seed)
    masks = {group.name: torch.rand(group.size, generator=generator) < 0.6 for group in structure.removable() if group.exact}
    for mask in masks.values():
        mask[int(torch.randint(len(mask), (1,), generator=generator))] = True
    return masks


def gap(model: nn.Module, inputs: Inputs, plan: Plan) -> float:
    """Largest difference between the shrunk and the silenced network, relative to the output."""
    with pn.silence(model, plan), torch.no_grad():
        silenced = flat(call(model, inputs))
    pn.shrink(model, plan)
    with torch.no_grad():
        return float((flat(call(model, inputs)) - silenced).abs().max() / silenced.abs().max().clamp(min=1.0))


@CASES
def test_a_network_without_blocks_is_the_silenced_one(name: str) -> None:
    """Every block alone, every second one, all; and silence is not nothing."""
    model, inputs, structure = get(name)
    names = removable(structure)
    assert names
    for some in (*([one] for one in names[:4]), names[::2], names):
        plan = structure.plan(leave(some))
        small = copy.deepcopy(model)
        assert gap(small, inputs, plan) < EXACT
        left = dict(small.named_parameters())
        assert not {key for one in some for key in structure.group(one).parameters} & left.keys()
    with pn.silence(model, plan):
        assert not torch.allclose(flat(call(model, inputs)), flat(call(build(name)[0], inputs)))


@CASES
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_blocks_and_units_leave_in_one_plan(name: str, seed: int) -> None:
    model, inputs, structure = get(name)
    plan = structure.plan({**units(structure, seed), **leave(removable(structure)[seed::2])})
    assert gap(model, inputs, plan) < EXACT


@CASES
def test_removing_twice_is_removing_once(name: str) -> None:
    """Units, then blocks, then units, each by the structure derived without tracing; a fresh trace finds the same blocks."""
    model, inputs, structure = get(name)
    whole = structure
    for step in (units(structure, 2), leave(removable(structure)[::2]), None):
        plan = structure.plan(units(structure, 3) if step is None else {key: step[key] for key in step})
        assert gap(model, inputs, plan) < EXACT
        structure = structure.after(plan)
    once = copy.deepcopy(build(name)[0])
    pn.shrink(once, whole.plan(leave(removable(whole)[::2])))
    again = structure_of(pn.trace(once, inputs, blocks=True))
    assert again == structure_of(whole.after(whole.plan(leave(removable(whole)[::2]))))


def structure_of(structure: Structure) -> set[str]:
    """The modules that make removable branches: names depend on how many branches an owner has."""
    return {structure.branch(name).module for name in removable(structure)}


@CASES
def test_block_by_block_is_all_at_once(name: str) -> None:
    model, inputs, structure = get(name)
    together = copy.deepcopy(model)
    pn.shrink(together, structure.plan(leave(removable(structure))))
    while removable(structure):
        plan = structure.plan(leave(removable(structure)[:1]))
        pn.shrink(model, plan)
        structure = structure.after(plan)
    assert torch.equal(flat(call(model, inputs)), flat(call(together, inputs)))
    assert model.state_dict().keys() == together.state_dict().keys()


@CASES
def test_saved_and_loaded_is_bitwise_the_same(name: str, tmp_path: Path) -> None:
    model, inputs, structure = get(name)
    for alive in (units(structure, 4), leave(removable(structure)[::2])):
        plan = structure.plan(alive)
        pn.shrink(model, plan)
        structure = structure.after(plan)
    pn.shrink(model, structure.plan(units(structure, 5)))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: copy.deepcopy(build(name)[0])).eval()
    assert torch.equal(flat(call(loaded, inputs)), flat(call(model, inputs)))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert str(loaded) == str(model)
    pn.save(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "structure.json").read_bytes() == (tmp_path / "structure.json").read_bytes()


@CASES
def test_a_shrunk_network_still_exports(name: str) -> None:
    model, inputs, structure = get(name)
    pn.shrink(model, structure.plan({**units(structure, 6), **leave(removable(structure)[::2])}))
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, args, kwargs, strict=False)
    assert torch.allclose(flat(program.module()(*args, **kwargs)), flat(call(model, inputs)), atol=EXACT)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("swin", marks=pytest.mark.slow),
        pytest.param("albert", marks=pytest.mark.slow),
        pytest.param("gpt2", marks=pytest.mark.slow),
        pytest.param("llama", marks=pytest.mark.slow),
        pytest.param("t5", marks=pytest.mark.slow),
    ],
)
def test_hugging_face_models_lose_blocks(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason='transformers is not installed (pip install "parsinet[transformers]")')
    make, inputs = (lambda: huggingface.build(huggingface.FAMILIES[name])), huggingface.example(huggingface.FAMILIES[name])
    model = make()
    structure = pn.trace(model, inputs, blocks=True)
    names = removable(structure)
    assert len(names) > 1
    plan = structure.plan({**units(structure, 0), **leave(names[::2])})
    with pn.silence(model, plan), torch.no_grad():
        expected = flat(results(model(**inputs)))
    pn.shrink(model, plan)
    with torch.no_grad():
        assert (flat(results(model(**inputs))) - expected).abs().max() < EXACT * expected.abs().max().clamp(min=1)
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, make).eval()
    with torch.no_grad():
        assert torch.equal(flat(results(loaded(**inputs))), flat(results(model(**inputs))))


OTHER_SIZES = {
    "bottlenecks": (3, 3, 12, 5),
    "preactivation": (5, 2, 4, 9),
    "post-norm": (1, 9, 5),
    "convnext": (3, 3, 10, 6),
    "resnet-20": (1, 3, 20, 9),
}


@pytest.mark.parametrize("name", OTHER_SIZES)
def test_other_batches_images_and_texts_fit(name: str) -> None:
    """A stand-in answers with the shape its module would have returned, not with the one it returned while the network was traced."""
    model, _, structure = get(name)
    inputs = torch.randn(*OTHER_SIZES[name], dtype=torch.float64)
    assert gap(model, inputs, structure.plan(leave(removable(structure)))) < EXACT


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, foreach=False),
    "sgd-foreach": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
    "lp-sgd": lambda p: pn.sphere.LpSGD(p, lr=0.01, p=1.2, momentum=0.9),
}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Inputs, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        flat(call(model, inputs)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", ["bottlenecks", "parallel", "residual-mlp"])
def test_training_goes_on_as_if_the_blocks_had_never_been(name: str, kind: str) -> None:
    """Live parameters and their state continue bitwise as in an optimizer that never held the others; two groups, one of which empties."""
    model, inputs, structure = get(name)
    model.train()
    gone = set(structure.plan(leave(removable(structure))).absent)
    leaving = [p for key, p in model.named_parameters() if any(key.startswith(f"{path}.") for path in gone)]
    staying = [p for p in model.parameters() if not any(p is other for other in leaving)]
    optimizer = OPTIMIZERS[kind]([{"params": leaving}, {"params": staying}])
    train(model, optimizer, inputs, 3)
    pn.shrink(model, structure.plan(leave(removable(structure))), optimizers=[optimizer])
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert {id(p) for p in optimizer.state} <= held
    assert not optimizer.param_groups[0]["params"]
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    fresh = OPTIMIZERS[kind](list(twin.parameters()))
    state = twin_optimizer.state_dict()
    state["param_groups"] = [{**state["param_groups"][1], "params": list(range(len(held)))}]
    state["state"] = {k: twin_optimizer.state[p] for k, p in enumerate(twin.parameters()) if p in twin_optimizer.state}
    fresh.load_state_dict(state)
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, inputs, 3)
    train(twin, fresh, inputs, 3)
    for (key, a), b, old in zip(model.named_parameters(), twin.parameters(), before, strict=True):
        assert torch.equal(a, b), key
        assert not torch.equal(a, old), f"{key} does not move"


def test_names_in_an_optimizer_leave_with_their_parameters() -> None:
    model, inputs, structure = get("residual-mlp")
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.01)
    train(model, optimizer, inputs, 1)
    pn.shrink(model, structure.plan(leave(["blocks.1.block"])), optimizers=[optimizer])
    assert optimizer.param_groups[0]["param_names"] == [key for key, _ in model.named_parameters()]
    train(model, optimizer, inputs, 1)


def test_an_average_of_the_weights_shrinks_by_the_same_plan() -> None:
    model, inputs, structure = get("bottlenecks")
    average = torch.optim.swa_utils.AveragedModel(model)
    plan = structure.plan({**units(structure, 7), **leave(removable(structure)[:2])})
    pn.shrink(model, plan)
    pn.shrink(average.module, plan)
    average.update_parameters(model)
    assert torch.equal(flat(average.module(inputs)), flat(model(inputs)))


@pytest.mark.parametrize("where", ["parsinet.structure.removal.extend_record", "parsinet.structure.removal.refresh", "torch.ones_like"])
@pytest.mark.parametrize("name", ["parallel", "torch-encoder"])
def test_a_removal_that_fails_leaves_everything_as_it_was(name: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, structure = get(name)
    if where == "torch.ones_like" and name != "parallel":
        pytest.skip("nothing is laid bare there")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train(model, optimizer, inputs, 2)
    picture = (str(model), {key: value.clone() for key, value in model.state_dict().items()}, copy.deepcopy(optimizer.state_dict()))
    plan = structure.plan({**units(structure, 8), **leave(removable(structure))})

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(RuntimeError, match="the disk is full"):
            pn.shrink(model, plan, optimizers=[optimizer])
    assert str(model) == picture[0]
    assert model.state_dict().keys() == picture[1].keys()
    assert all(torch.equal(value, picture[1][key]) for key, value in model.state_dict().items())
    assert str(optimizer.state_dict()) == str(picture[2])
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], model.parameters(), strict=True))
    assert gap(model, inputs, plan) < EXACT


def test_what_is_counted_is_what_is_left() -> None:
    model, inputs, structure = get("residual-mlp")
    inputs = inputs[:1]
    before = pn.measure.profile(model, inputs, latency=False)
    pn.shrink(model, structure.plan(leave(["blocks.0.block", "blocks.2.block"])))
    after = pn.measure.profile(model, inputs, latency=False)
    assert before.parameters - after.parameters == 2 * (8 * 12 + 12 + 12 * 8 + 8)
    assert before.macs - after.macs == 2 * 2 * 8 * 12
    assert before.bytes - after.bytes == 8 * (before.parameters - after.parameters)


def test_names_follow_one_rule() -> None:
    """The owner's name where it adds one branch; else, and at the top, the name of the module that makes the branch."""
    found = {name: removable(traced(name)) for name in ("resnet-20", "tiny-vit", "post-norm", "mixer")}
    assert found["resnet-20"][:2] == ["layer1.0.block", "layer1.1.block"]
    assert found["tiny-vit"][:2] == ["blocks.0.attn.block", "blocks.0.mlp.block"]
    assert found["post-norm"] == ["out.block", "down.block"]
    assert found["mixer"] == ["tokens.block", "channels.block"]


class Clash(nn.Module):
    """A child called `block` whose units would have the name of the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.fc = nn.Linear(4, 6), nn.Linear(6, 2)
        self.part = ClashPart()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.part(torch.relu(self.lift(x))))


class ClashPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.out = nn.Linear(6, 5), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(torch.relu(self.block(x)))


def test_names_of_blocks_and_groups_never_collide() -> None:
    structure = pn.trace(Clash(), torch.randn(2, 4), blocks=True)
    assert structure.group("part.block").kind == "units"
    assert removable(structure) == ["part.block#2"]


def test_blocks_are_looked_for_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proving them takes time: a trace that is not asked neither notes calls, nor walks the graph, nor tries one."""
    model, inputs, asked = get("resnet-20")
    for part in ("capture.calls_noted", "analysis.with_blocks", "proof.prove_blocks"):
        monkeypatch.setattr(f"parsinet.structure.{part}", lambda *_: pytest.fail("unasked"))
    structure = pn.trace(model, inputs)
    assert structure.blocks == ()
    assert structure.groups == asked.groups


def test_a_block_in_a_structure_without_them_says_what_to_write() -> None:
    model, inputs, asked = get("resnet-20")
    structure = pn.trace(model, inputs)
    smaller = structure.after(structure.plan(units(structure, 0)))
    words = r"no group 'layer1\.0\.block'\. Residual branches are looked for when asked: trace with blocks=True"
    for looked_up in (structure.group, structure.branch, smaller.group, lambda name: structure.plan(leave([name]))):
        with pytest.raises(StructureError, match=words):
            looked_up("layer1.0.block")
    for found, name in ((asked, "layer1.9.block"), (structure, "layer1.0.conv9")):
        with pytest.raises(StructureError) as refusal:
            found.group(name)
        assert "blocks=True" not in str(refusal.value)


def test_blocks_are_no_groups_of_units() -> None:
    """Whoever works on groups meets none of them; by name they are found."""
    structure = traced("resnet-20")
    assert all(group.kind == "units" for group in (*structure.groups, *structure.removable()))
    block = structure.group("layer1.0.block")
    assert (block.kind, block.size, block.removable, block.exact) == ("block", 1, True, True)
    assert structure.branch("layer1.0.block").module == "layer1.0.bn2"
    with pytest.raises(StructureError, match="no residual branch"):
        structure.branch("conv1")


def test_ignored_layers_keep_their_block() -> None:
    model, inputs, _ = get("residual-mlp")
    structure = pn.trace(model, inputs, ignored_layers=["blocks.0.fc1", model.blocks[2]], blocks=True)
    assert removable(structure) == ["blocks.1.block"]
    assert structure.group("blocks.0.block").reason == "blocks.0.fc1 is in ignored_layers"
    with pytest.raises(StructureError, match=r"blocks\.2 is in ignored_layers"):
        structure.plan(leave(["blocks.2.block"]))


def test_what_leaves_with_a_block_is_gone_from_the_structure() -> None:
    structure = traced("nested")
    plan = structure.plan({**leave(["leave.block"]), "inner.0": torch.ones(5, dtype=torch.bool)})
    after = structure.after(plan)
    assert set(plan.widths()) == {"leave.block", "inner.block", "inner.0", "enter"}
    assert "inner.0" not in [group.name for group in after.groups]
    assert removable(after) == ["last.block"]
    assert set(after.group("lift").parameters) == {
        *("lift.weight", "lift.bias", "last.0.weight", "last.2.weight", "last.2.bias", "fc.weight")
    }
    assert [reader.module for reader in after.readers("lift")] == ["last.0", "fc"]


def test_a_norm_that_two_branches_read_leaves_with_the_second() -> None:
    model, _, structure = get("parallel")
    first = structure.plan(leave(["left.block"]))
    assert set(first.absent) == {"left"}
    second = structure.after(first).plan(leave(["right.block"]))
    assert set(second.absent) == {"right", "norm"}
    assert second.bare == ("scale",)
    pn.shrink(model, first)
    pn.shrink(model, second)
    assert {key.partition(".")[0] for key, _ in model.named_parameters()} == {"lift", "fc"}
    assert "scale" not in model.state_dict()


def test_what_only_leaving_branches_read_goes_too() -> None:
    """The encoder of an encoder-decoder, once the decoder no longer looks at it."""
    model, _, structure = get("torch-seq2seq")
    pn.shrink(model, structure.plan(leave(["decoder.multihead_attn.block"])))
    assert not [key for key, _ in model.named_parameters() if key.startswith("encoder.")]


def test_torchs_fused_pass_is_left_alone() -> None:
    """In evaluation mode and without gradients an encoder would hand all its weights to one kernel, with a mask as packed tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0, dtype=torch.float64)
        model = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8, dtype=torch.float64)).eval()
    inputs = {
        "src": torch.randn(3, 5, 8, dtype=torch.float64),
        "src_key_padding_mask": torch.arange(5).expand(3, 5) >= torch.tensor([[5], [4], [3]]),
    }
    structure = pn.trace(model, inputs, removable_outputs=True, blocks=True)
    assert len(removable(structure)) == 4
    for some in (["layers.0.linear2.block"], ["layers.0.self_attn.block"], removable(structure)):
        small = copy.deepcopy(model)
        plan = structure.plan(leave(some))
        with pn.silence(small, plan), torch.no_grad():
            expected = small(**inputs)
        pn.shrink(small, plan)
        with torch.no_grad():
            assert (small(**inputs) - expected).abs()[~inputs["src_key_padding_mask"]].max() < EXACT


def test_a_plan_of_another_size_is_refused() -> None:
    model, _, structure = get("residual-mlp")
    plan = structure.plan(leave(["blocks.0.block"]))
    pn.shrink(model, plan)
    with pytest.raises(StructureError, match=r"'blocks\.0' to leave, which the model does not have"):
        pn.shrink(model, plan)
    with pytest.raises(StructureError, match="bool of length 1"):
        structure.plan({"blocks.0.block": torch.zeros(2, dtype=torch.bool)})
    assert structure.plan({"blocks.0.block": torch.tensor([True])}).empty


def test_a_damaged_record_changes_nothing(tmp_path: Path) -> None:
    model, _, structure = get("residual-mlp")
    pn.shrink(model, structure.plan(leave(["blocks.0.block"])))
    pn.save(model, tmp_path)
    content = json.loads((tmp_path / "structure.json").read_text())
    del content["sha256"]
    assert content["format"] == 2
    for wrong in ({"blocks.7": content["absent"]["blocks.0"]}, {"blocks.0": {"entries": [0]}}, ["blocks.0"]):
        (tmp_path / "structure.json").write_text(json.dumps({**content, "absent": wrong}))
        with pytest.raises(StructureError):
            pn.load(tmp_path, lambda: copy.deepcopy(build("residual-mlp")[0]))


def test_units_alone_keep_the_first_format(tmp_path: Path) -> None:
    model, _, structure = get("residual-mlp")
    pn.shrink(model, structure.plan(units(structure, 0)))
    pn.save(model, tmp_path)
    assert json.loads((tmp_path / "structure.json").read_text())["format"] == 1


class Odd(nn.Module):
    """Branches that cannot leave: no module makes what is added; a parameter is used elsewhere; the sum is no residual one."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.side, self.fc = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)
        self.up, self.down = nn.Linear(6, 6), nn.Linear(6, 6)
        self.matrix = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.lift(x) + self.side(x))
        h = h + torch.sin(F.linear(h, self.matrix) + 1)
        h = h + self.down(torch.relu(self.up(h)))
        return self.fc(h) + h @ self.up.weight[:2].T


def test_what_cannot_leave_says_why() -> None:
    structure = pn.trace(Odd(), torch.randn(2, 4), blocks=True)
    reasons = {block.name: block.reason for block in structure.blocks}
    assert not removable(structure)
    assert "made by no module of its own" in reasons["block"]
    assert "up.bias cannot leave" in reasons["down.block"]
    assert len(reasons) == 2, "lift + side and fc + … have no skip"


def test_the_dry_run_objects_to_a_stand_in_of_the_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: convolutions that halve the image are taken for ones that keep it."""
    monkeypatch.setattr("parsinet.structure.blocks_calls._window", lambda module, d: (-1, 1))
    model, inputs = build("bottlenecks")
    assert removable(pn.trace(model, inputs, blocks=True)) == ["layers.0.block", "layers.1.block"]


def test_the_dry_run_objects_to_a_module_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: every module is said to be needed by the branches alone."""
    ever = frozenset([frozenset(["left.block"])])
    monkeypatch.setattr("parsinet.structure.blocks_finding._dead_modules", lambda *_: {"left": ever, "norm": ever, "right": ever})
    structure = pn.trace(*build("parallel"), blocks=True)
    assert "reads zero" in structure.group("left.block").reason


def test_the_law_objects_to_stand_ins_that_emit_something(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, structure = get("bottlenecks")
    monkeypatch.setattr(Absent, "_answer", lambda self, x, answer: torch.ones(2, 14, 4, 5, dtype=x.dtype))
    assert gap(model, inputs, structure.plan(leave(["layers.2.block"]))) > 1e-6


def test_the_law_objects_to_dead_parameters_in_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parsinet.structure.removal.forget", lambda optimizer, tensors: None)
    with pytest.raises(AssertionError):
        test_training_goes_on_as_if_the_blocks_had_never_been("residual-mlp", "adam")


def test_blocks_do_not_fold() -> None:
    model, inputs, structure = get("residual-mlp")
    plan = structure.plan(leave(["blocks.0.block"]))
    with pytest.raises(UsageError, match=r"blocks\.0\.block would: let them go in a plan of their own"):
        pn.shrink(model, plan, fold="constant", example_inputs=inputs)


def test_inspect_lists_blocks_apart() -> None:
    """The share of removable parameters counts each parameter once, whether or not its block may leave as well."""
    found = pn.training.inspect(pn.training.recipe_from({"model": {"name": "wrn-12"}}), (1, 12, 12))
    assert [row.name for row in found.blocks] == ["layer1.0.block", "layer2.0.block", "layer2.1.block", "layer3.0.block", "layer3.1.block"]
    assert not {row.name for row in found.blocks} & {row.name for row in found.groups}
    assert found.blocks[0].parameters == 2 * 16 * 16 * 9 + 4 * 16
    assert found.plain()["blocks"][0]["removable"] is True
    assert found.share <= 1


def test_a_module_that_would_hand_its_input_on_leaves_whole() -> None:
    """x + 0, and relu(x + 0) of what a ReLU has made; not where a projection, a norm or dropout stays."""
    resnet = traced("resnet-20")
    assert set(resnet.plan(leave(["layer1.1.block"])).absent) == {"layer1.1"}
    assert "layer2.0" not in resnet.plan(leave(["layer2.0.block"])).absent
    vit = traced("tiny-vit")
    first = vit.plan(leave(["blocks.0.attn.block"]))
    assert set(first.absent) == {"blocks.0.norm1", "blocks.0.attn"}
    assert set(vit.after(first).plan(leave(["blocks.0.mlp.block"])).absent) == {"blocks.0"}
    assert set(vit.plan(leave(["blocks.0.attn.block", "blocks.0.mlp.block"])).absent) == {"blocks.0"}
    encoder = traced("torch-encoder")
    assert set(encoder.plan(leave(["post.self_attn.block", "post.linear2.block"])).absent) == {
        "post.self_attn",
        "post.linear1",
        "post.linear2",
    }


def test_where_others_look_into_a_module_it_stays() -> None:
    """nn.TransformerEncoder asks its first layer for attributes of its attention: the dry run objects, and parts leave instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True, dtype=torch.float64)
        model = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8, dtype=torch.float64)).eval()
    inputs = torch.randn(3, 5, 8, dtype=torch.float64)
    structure = pn.trace(model, inputs, removable_outputs=True, blocks=True)
    assert len(removable(structure)) == 4
    plan = structure.plan(leave(removable(structure)))
    assert "layers.0.self_attn" in plan.absent
    assert gap(model, inputs, plan) < EXACT


class WrittenInto(nn.Module):
    """The first block's result is written into: by the next addition, or by an in-place ReLU; a long skip reads its input afterwards."""

    def __init__(self, *, relu: bool) -> None:
        super().__init__()
        self.lift, self.side, self.fc, self.other = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.first, self.second = residual.MLPBlock(8, 6), residual.MLPBlock(8, 6)
        self.third = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.sigmoid(self.lift(x))
        y = self.first(skip)
        z = self.second(torch.sin(self.side(x)))
        if self.relu:
            y = y.view(-1, 8).relu_()
        else:
            y += self.third(2 * y)
        return self.fc(y) + self.other(torch.tanh(z) * skip)


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_written_into_afterwards_is_no_alias_of_the_input(relu: bool) -> None:
    """A module that handed its input on would let the long skip change, and the backward pass find a tensor that was written over."""
    model = WrittenInto(relu=relu).double()
    inputs = torch.randn(3, 5, dtype=torch.float64)
    structure = pn.trace(model, inputs, blocks=True)
    assert removable(structure) == ["first.block", "second.block", *([] if relu else ["third.block"])]
    plan = structure.plan(leave(["first.block"]))
    assert gap(model, inputs, plan) < EXACT
    model(inputs).square().mean().backward()
    assert set(plan.absent) == {"first.fc1", "first.fc2"}


def test_units_that_nobody_reads_any_more_still_leave() -> None:
    """What a raw matrix makes is read by two branches alone: its units leave before them, with them and after them."""
    model = residual.ReadByBranches().double()
    inputs = torch.randn(3, 6, dtype=torch.float64)
    structure = pn.trace(model, inputs, blocks=True)
    blocks, some = leave(["left.block", "right.block"]), {"raw.matrix": torch.arange(12) < 5}
    small = []
    for steps in ([some, blocks], [{**some, **blocks}], [blocks, some]):
        small.append(copy.deepcopy(model))
        now = structure
        for alive in steps:
            plan = now.plan(alive)
            assert gap(small[-1], inputs, plan) < EXACT
            now = now.after(plan)
        assert small[-1].get_parameter("raw.matrix").shape == (8, 5)
        assert now.group("raw.matrix").size == 5
    assert all(torch.equal(small[0](inputs), other(inputs)) for other in small)


class Aliases(nn.Module):
    """A scale of two names of which the second is read; a layer of the branch that a table of the model's lists once more."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.block, self.fc = nn.Linear(5, 8), residual.MLPBlock(8, 6), nn.Linear(8, 3)
        self.branch = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.rand(8))
        self.gain = self.scale
        self.table = nn.ModuleDict({"last": self.block.fc2})

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(torch.relu(self.lift(x)))
        return self.fc(torch.tanh(x + self.branch(x) * self.gain))


def test_other_names_of_what_leaves(tmp_path: Path) -> None:
    """A parameter is laid bare in every place that has it; a module that is still listed elsewhere keeps its parameters there."""
    model = Aliases().double()
    inputs = torch.randn(3, 5, dtype=torch.float64)
    structure = pn.trace(model, inputs, blocks=True)
    optimizer = torch.optim.Adam(model.parameters())
    for alive in (units(structure, 0), leave(["block.block", "branch.block"]), None):
        plan = structure.plan(units(structure, 1) if alive is None else alive)
        with pn.silence(model, plan), torch.no_grad():
            expected = model(inputs)
        pn.shrink(model, plan, optimizers=[optimizer])
        assert (model(inputs) - expected).abs().max() < EXACT
        structure = structure.after(plan)
    assert [key for key, _ in model.named_parameters()] == [
        *("lift.weight", "lift.bias", "fc.weight", "fc.bias", "table.last.weight", "table.last.bias")
    ]
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    pn.save(model, tmp_path)
    assert torch.equal(pn.load(tmp_path, lambda: Aliases().double())(inputs), model(inputs))


class Pair(nn.Module):
    """Four residual blocks; the forward pass needs the first or the last."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(residual.MLPBlock(6, 5) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        gone = [next(block.parameters(), None) is None for block in self.blocks]
        if gone[0] and gone[3]:
            raise RuntimeError("the first or the last is needed")
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_of_two_that_cannot_leave_together_one_stays() -> None:
    structure = pn.trace(Pair(), torch.randn(2, 6), blocks=True)
    assert removable(structure) == [f"blocks.{k}.block" for k in range(3)]
    reason = structure.group("blocks.3.block").reason
    assert reason.startswith("it cannot leave together with blocks.0.block: ")
    assert "the first or the last is needed" in reason


class Twice(nn.Module):
    """Blocks registered in two containers, and called by their names in the second."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [residual.MLPBlock(6, 5) for _ in range(2)]
        self.listed, self.chain, self.head = nn.ModuleList(blocks), nn.Sequential(*blocks), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.chain(x))


def test_blocks_with_two_names_say_so() -> None:
    structure = pn.trace(Twice(), torch.randn(2, 6), blocks=True)
    assert not removable(structure)
    assert structure.group("chain.1.block").reason == "chain.1 is registered as listed.1 before; call it by that name"


def test_paths_are_compared_by_names_not_by_letters() -> None:
    assert owners("a.b.c") == {"a", "a.b"}
    assert beneath_any("a.b.c", {"x", "a.b"})
    assert not beneath_any("a.bc", {"a.b", "a.bc"})
    assert within_any("a.bc", {"a.bc"})
    assert not within_any("ab", {"a", "b", ""})
