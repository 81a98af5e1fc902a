"""Hugging Face families under the laws of the engine: what is removable, parity, training, files, export; tiny random weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import parsinet as pn
from architectures.huggingface import FAMILIES, FEED_FORWARD, SLOW, build, example
from parsinet.structure.calling import results
from parsinet.structure.plan import Plan
from parsinet.structure.traced import Structure

transformers = pytest.importorskip("transformers", reason='transformers is not installed (pip install "parsinet[transformers]")')

EXACT = 1e-10
"""float64: sums over fewer terms differ in the last digits only."""
ALIKE = {
    *SLOW,
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "mistral",
    "mixtral",
    "qwen2",
    "phi",
    "deit",
    "clip-text",
    "opt",
    "bloom",
    "gpt-neox",
    "deberta",
    "swin",
    "albert",
    "whisper",
    "llava",
}
"""Families left to the slow run: the laws take longest on them, or their parts are those of another in the table."""
CASES = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in FAMILIES])
EXPORTED = {"bert-classifier", "llama", "t5-encoder", "vit"}
"""Families whose small model the default run exports; the others in the slow one."""
Traced = dict[str, tuple[nn.Module, Structure]]


@pytest.fixture(scope="module")
def traced() -> Traced:
    return {}


def get(traced: Traced, name: str) -> tuple[nn.Module, dict[str, Any], Structure]:
    """A fresh copy of the family's model, its inputs and its structure (traced once)."""
    inputs = example(FAMILIES[name])
    if name not in traced:
        model = build(FAMILIES[name])
        traced[name] = (model, pn.trace(model, inputs))
    model, structure = traced[name]
    return copy.deepcopy(model), inputs, structure


def run(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """Everything the model returns, in one vector."""
    leaves = tree_leaves(results(model(**inputs)))
    return torch.cat([leaf.reshape(-1).double() for leaf in leaves if isinstance(leaf, Tensor)])


def random_plan(structure: Structure, seed: int, *, exact_only: bool = True) -> Plan:
    generator = torch.Generator().manual_seed(seed)
    alive = {}
    for group in structure.removable():
        if group.exact or not exact_only:
            alive[group.name] = torch.rand(group.size, generator=generator) < 0.6
            alive[group.name][torch.randint(group.size, (1,), generator=generator)] = True
    return structure.plan(alive)


@CASES
def test_what_is_removable(traced: Traced, name: str) -> None:
    _, _, structure = get(traced, name)
    family, removable = FAMILIES[name], structure.removable()
    residual = max((group for group in structure.groups if not group.exact), key=lambda group: len(group.parameters))
    assert sum(group.name.endswith(".heads") for group in removable) == family.heads
    assert sum(group.size == FEED_FORWARD for group in removable) == family.feed_forward
    assert (residual.removable, residual.exact) == (family.width, False)
    assert all(group.reason for group in structure.groups if not (group.removable and group.exact))


@CASES
def test_shrunk_equals_silenced(traced: Traced, name: str) -> None:
    model, inputs, structure = get(traced, name)
    with torch.no_grad():
        for seed in (0, 1):
            smaller, plan = copy.deepcopy(model), random_plan(structure, seed)
            with pn.silence(model, plan):
                silenced = run(model, inputs)
            pn.shrink(smaller, plan)
            assert (run(smaller, inputs) - silenced).abs().max() < EXACT * silenced.abs().max()
            assert (run(model, inputs) - silenced).abs().max() > 1e-3, "the removal is not seen in the output"


@CASES
def test_training_goes_on(traced: Traced, name: str) -> None:
    """Every parameter that had a gradient has one after a removal from all groups, and an optimizer step moves it."""
    model, inputs, structure = get(traced, name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    reached = step(model, optimizer, inputs)
    pn.shrink(model, random_plan(structure, 2, exact_only=False), optimizers=[optimizer])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    assert step(model, optimizer, inputs) == reached
    assert all(not torch.equal(parameter, before[key]) for key, parameter in model.named_parameters() if key in reached)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: dict[str, Any]) -> set[str]:
    """One step; the names of the parameters that got a gradient."""
    optimizer.zero_grad()
    run(model, inputs).square().mean().backward()
    optimizer.step()
    return {key for key, parameter in model.named_parameters() if parameter.grad is not None}


@CASES
def test_saved_and_loaded_is_bitwise_the_same(traced: Traced, name: str, tmp_path: Path) -> None:
    model, inputs, structure = get(traced, name)
    pn.shrink(model, random_plan(structure, 3, exact_only=False))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, lambda: build(FAMILIES[name])).eval()
    with torch.no_grad():
        assert torch.equal(run(loaded, inputs), run(model, inputs))
    assert loaded.config.to_dict() == model.config.to_dict()
    assert sizes(loaded) == sizes(model)


def sizes(model: nn.Module) -> dict[str, dict[str, int]]:
    """Every number the modules keep."""
    return {path: {key: value for key, value in module.__dict__.items() if type(value) is int} for path, module in model.named_modules()}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in EXPORTED else pytest.mark.slow) for name in FAMILIES])
def test_the_small_model_exports(traced: Traced, name: str) -> None:
    model, inputs, structure = get(traced, name)
    pn.shrink(model, random_plan(structure, 4))
    model.register_forward_hook(lambda _module, _args, output: results(output))
    program = torch.export.export(model, (), inputs, strict=False)
    with torch.no_grad():
        assert torch.allclose(run(program.module(), inputs), run(model, inputs), rtol=0, atol=1e-8)


SIZES = {
    "gpt2": ("transformer.h.0.attn", {"split_size": 12, "num_heads": 3, "head_dim": 4, "embed_dim": 16}),
    "bert-classifier": ("bert.encoder.layer.0.attention.self", {"num_attention_heads": 3, "attention_head_size": 4, "all_head_size": 12}),
    "llama": ("model.layers.0.mlp", {"hidden_size": 16, "intermediate_size": 27}),
    "t5-encoder": ("encoder.block.0.layer.0.SelfAttention", {"n_heads": 3, "key_value_proj_dim": 4, "inner_dim": 12, "d_model": 24}),
    "mamba": ("backbone.layers.0.mixer", {"intermediate_size": 27, "ssm_state_size": 3, "time_step_rank": 1, "hidden_size": 13}),
    "gpt-neox": ("gpt_neox.layers.0.attention", {"head_size": 5}),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in SIZES])
def test_numbers_that_modules_keep_follow(traced: Traced, name: str) -> None:
    model, _, structure = get(traced, name)
    pn.shrink(model, every_third_leaves(structure))
    path, expected = SIZES[name]
    assert {key: getattr(model.get_submodule(path), key) for key in expected} == expected


def every_third_leaves(structure: Structure) -> Plan:
    return structure.plan({group.name: torch.arange(group.size) % 3 != 1 for group in structure.removable()})


def test_the_configuration_follows_where_one_number_describes_all_layers(traced: Traced) -> None:
    model, _, structure = get(traced, "llama")
    before = model.config
    pn.shrink(model, every_third_leaves(structure))
    after = model.config
    assert (after.hidden_size, after.intermediate_size, after.head_dim) == (16, 27, 4)
    assert before.hidden_size == 24, "the object may belong to a factory or to another model"
    assert all(getattr(module, "config", after) is after for module in model.modules())


@pytest.mark.slow
def test_the_width_of_experts_follows_in_the_configuration(traced: Traced) -> None:
    model, inputs, structure = get(traced, "mixtral")
    experts = {group.name: torch.arange(group.size) < 5 for group in structure.removable() if group.name.endswith("gate_up_proj")}
    pn.shrink(model, structure.plan(experts))
    widths = [module.intermediate_dim for module in model.modules() if hasattr(module, "intermediate_dim")]
    assert len(experts) == len(widths) == model.config.num_hidden_layers
    assert {*widths, model.config.intermediate_size} == {5}
    model(**inputs)


def test_the_configuration_stays_where_layers_differ(traced: Traced) -> None:
    model, _, structure = get(traced, "llama")
    width = next(group for group in structure.removable() if group.size == FEED_FORWARD)
    pn.shrink(model, structure.plan({width.name: torch.arange(FEED_FORWARD) < 30}))
    assert model.config.intermediate_size == FEED_FORWARD
    assert model.get_submodule("model.layers.0.mlp").intermediate_size == 30


@pytest.mark.slow
def test_a_cache_in_the_output_binds_nothing(traced: Traced) -> None:
    """llama here returns its cache, mistral does not: the same groups."""
    with_cache, without = get(traced, "llama"), get(traced, "mistral")
    assert with_cache[0](**with_cache[1]).past_key_values is not None
    assert without[0](**without[1]).past_key_values is None
    assert [group.name for group in with_cache[2].removable()] == [group.name for group in without[2].removable()]


def test_units_of_a_transposed_layer_can_be_gated(traced: Traced) -> None:
    _, _, structure = get(traced, "gpt2")
    assert structure.gateable("transformer.h.0.mlp.c_fc")
    assert [reader.module for reader in structure.readers("transformer.h.0.mlp.c_fc")] == ["transformer.h.0.mlp.c_proj"]


def test_the_dry_run_notices_a_number_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: GPT-2's layers keep `nf`; without the rule for it, and without marks, nothing of the model is offered."""
    shallow = replace(FAMILIES["gpt2"], options={**FAMILIES["gpt2"].options, "n_layer": 1})
    monkeypatch.setattr("parsinet.structure.attributes.NAMED_RULES", {})
    monkeypatch.setattr("parsinet.structure.kept._mark", lambda value, path, name: value)
    structure = pn.trace(build(shallow), example(shallow))
    assert not structure.removable()
    assert "x.view(size_out)" in structure.group("transformer.wte").reason


def test_heads_that_another_trace_finds_under_the_same_name_leave_too(tmp_path: Path) -> None:
    """With one key head left, the next trace offers its query heads; the record keeps both histories."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}

    def build() -> nn.Module:
        torch.manual_seed(0)
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()

    model, x = build(), {"input_ids": torch.randint(0, 20, (2, 5))}
    for _ in range(2):
        group = next(group for group in pn.trace(model, x).removable() if group.name.endswith("heads"))
        pn.shrink(model, pn.trace(model, x).plan({group.name: torch.tensor([True, False])}))
    pn.save(model, tmp_path)
    loaded = pn.load(tmp_path, build).eval()
    assert torch.equal(loaded(**x).logits, model(**x).logits)
    assert loaded.model.layers[0].self_attn.q_proj.out_features == 4
