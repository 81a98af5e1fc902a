"""Recipes: what is refused and in which words, what YAML means, what is stored."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from parsinet.errors import StorageError, UsageError
from parsinet.training import Recipe, load_recipe, recipe_from, save_recipe, with_settings, with_values
from parsinet.training.recipe import NamedPart, Part
from parsinet.training.resolve import _SECTIONS

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "unknown key 'epoch'. Did you mean 'epochs'?"),
    ({"optimizer": {"name": "sgd", "momentm": 1}}, "unknown key 'optimizer.momentm'. Did you mean 'momentum'?"),
    ({"optimizer": {"momentum": 0.9}}, "unknown key 'optimizer.momentum'."),
    ({"optimizer": {"name": "sdg"}}, "unknown optimizer 'sdg'. Did you mean 'sgd'?"),
    ({"optimizer": {"lr": float("nan")}}, "optimizer.lr must be a finite number, got nan."),
    ({"optimizer": {"lr": 0}}, "optimizer.lr must be > 0, got 0."),
    ({"optimizer": {"lr": "fast"}}, "optimizer.lr must be a valid number"),
    ({"optimizer": {"name": "sgd", "nesterov": True, "momentum": 0}}, "nesterov needs momentum > 0."),
    ({"optimizer": None}, "optimizer must be a section with keys of its own, got None."),
    ({"data": {"validation": 1}}, "data.validation must be < 1, got 1."),
    ({"data": {"augmentation": {"flp": True}}}, "unknown key 'data.augmentation.flp'. Did you mean 'flip'?"),
    ({"data": {"source": ""}}, "data.source must have at least 1 character"),
    ({"data": "digits"}, "data must be a section with keys of its own, got 'digits'."),
    ({"epochs": 0}, "epochs must be ≥ 1, got 0."),
    ({"epochs": True}, "epochs must be a valid integer, got True."),
    ({"epochs": 2.5}, "epochs must be a valid integer, got 2.5."),
    ({"round_to": -4}, "round_to must be ≥ 1, got -4."),
    ({"fold": "zero"}, "fold must be 'none', 'constant' or 'mean', got 'zero'."),
    ({"fold_approximate": True}, "fold_approximate needs fold: constant or fold: mean."),
    ({"seed": -1}, "seed must be ≥ 0, got -1."),
    ({"seed": 2**63}, f"seed must be ≤ {2**63 - 1}, got {2**63}."),
    ({"seed": 10**23 - 1}, f"seed must be ≤ {2**63 - 1}, got {10**23 - 1}."),
    ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'."),
    ({"ignored_layers": "fc1"}, "ignored_layers must be a list, got 'fc1'."),
    ({"schedule": {"steps": [[2, 1e-3]]}}, "schedule.kind is missing. Known: constant, steps, cosine."),
    ({"schedule": {"kind": "cosin"}}, "unknown schedule 'cosin'. Did you mean 'cosine'?"),
    ({"schedule": {"kind": "steps"}}, "schedule.steps is missing."),
    ({"schedule": {"kind": "steps", "steps": []}}, "schedule.steps must have at least 1 item"),
    ({"schedule": {"kind": "steps", "steps": [[5, 1e-3], [3, 1e-4]]}}, "epochs of steps must ascend, got [5, 3]."),
    ({"schedule": {"kind": "steps", "steps": [[25, 1e-3]]}}, "schedule.steps names epoch 25, but epochs is 20."),
    ({"schedule": {"kind": "cosine", "hold": 0.6, "warmup": 0.6}}, "warmup + hold must be ≤ 1, got 0.6 + 0.6."),
    ({"schedule": {"kind": "constant", "hold": 0.6}}, "unknown key 'schedule.hold'."),
    ({"distill": {"wieght": 0.5}}, "unknown key 'distill.wieght'. Did you mean 'weight'?"),
    ({"distill": {"weight": 0}}, "distill.weight must be > 0, got 0."),
    ({"distill": {"temperature": -1}}, "distill.temperature must be > 0, got -1."),
    ({"distill": {"teacher": "runs/dense", "begin": 0.2}}, "distill: begin and decay are of the network's own earlier self"),
    ({"distill": True}, "distill must be a section with keys of its own, got True."),
    ({"average": {"kind": "mean"}}, "average.kind must be 'equal' or 'ema', got 'mean'."),
    ({"average": {"begin": 1}}, "average.begin must be < 1, got 1."),
    ({"average": {"decay": 0.9}}, "average: decay needs kind: ema."),
    (
        {"average": {}, "optimizer": {"name": "lpsgd"}},
        "average does not go with optimizer lpsgd: the mean of points on a sphere lies inside it.",
    ),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_refusal_names_the_key_in_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from(values)
    assert words in str(caught.value)
    assert str(caught.value).startswith("Recipe: ")
    assert "\n" not in str(caught.value)


def test_every_closed_section_can_name_its_keys() -> None:
    def parts(kind: type[BaseModel]) -> set[type[BaseModel]]:
        return {kind}.union(*(parts(child) for child in kind.__subclasses__()))

    leaves = {kind for kind in parts(Part) if not kind.__subclasses__() and not kind.__module__.startswith("parsinet.bench")} - {Part}
    assert leaves == set(_SECTIONS.values())
    assert not {kind for kind in _SECTIONS.values() if issubclass(kind, NamedPart)}


def test_stored_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = recipe_from(
        {
            "data": {"source": "mnist", "folder": "somewhere", "augmentation": {"flip": True}},
            "model": {"name": "mlp", "widths": [64, 32]},
            "method": {"name": "gates", "price": 3e-4},
            "optimizer": {"name": "sgd", "lr": 1e-5},
            "schedule": {"kind": "steps", "steps": [[12, 3e-4]]},
            "ignored_layers": ["fc1"],
        }
    )
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.method.options == {"price": 3e-4}


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1E3", 1e3), ("-2.5e+1", -25.0), ("12", 12), ("[1, 2]", [1, 2]), ("true", True), ("1e", "1e"), ("~", None)],
)
def test_settings_are_typed_by_yaml(text: str, value: Any) -> None:
    settled = with_settings({}, [f"method.price={text}"])["method"]["price"]
    assert settled == value
    assert type(settled) is type(value)


def test_a_target_with_an_equals_sign_of_its_own_is_one_value(tmp_path: Path) -> None:
    recipe = recipe_from({"method": with_settings({}, ["method.name=gates", "method.target=macs=20%"])["method"]})
    assert recipe.method.options == {"target": "macs=20%"}
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_later_settings_win_and_the_first_mapping_stays_as_it_is() -> None:
    first = {"optimizer": {"lr": 1.0}}
    assert with_settings(first, ["optimizer.lr=2", "optimizer.lr=3"]) == {"optimizer": {"lr": 3}}
    assert with_values(first, {"optimizer.name": "sgd"}) == {"optimizer": {"lr": 1.0, "name": "sgd"}}
    assert first == {"optimizer": {"lr": 1.0}}


@pytest.mark.parametrize("setting", ["epochs", "=3", "a..b=1", "epochs=[1", "epochs={a: 1, a: 2}", "epochs.deep=3"])
def test_malformed_settings_are_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=r"epochs|--set"):
        with_settings({"epochs": 3}, [setting])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs: [", "not valid YAML"),
        (b"- 3", "keys and values"),
        (b"\xff\xfe", "UTF-8"),
        (b"a: 1\na: 2", "given twice"),
        (b"3: 4", "keys and values"),
    ],
)
def test_unreadable_files_are_refused_with_their_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_recipe(tmp_path / "empty.yaml") == Recipe()
