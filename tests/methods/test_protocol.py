"""Every method of the table is the protocol: same members, same life, and errors that name the nearest name."""

from __future__ import annotations

import inspect
import io
import json

import pytest
import torch
from torch import nn

from parsinet import methods
from parsinet.errors import UsageError
from parsinet.methods import METHODS, Method, Pruner
from parsinet.sphere import LpSGD

MEMBERS = {name for name in vars(Method) if not name.startswith("_")} | {"name"}
CASES = pytest.mark.parametrize("name", METHODS)


def tell_missing(method: object) -> set[str]:
    """Members of the protocol that the object lacks or that take other arguments."""
    lacking = {member for member in MEMBERS if not hasattr(method, member)}
    called = {member for member in MEMBERS - lacking if callable(vars(Method).get(member))}
    other = {
        member
        for member in called
        if [*inspect.signature(getattr(method, member)).parameters] != [*inspect.signature(getattr(Method, member)).parameters][1:]
    }
    return lacking | other


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


@CASES
def test_every_method_has_the_members_of_the_protocol(name: str) -> None:
    assert tell_missing(methods.build(name)) == set()
    assert methods.build(name).name == name


def test_the_check_objects_to_a_missing_member_and_to_other_arguments() -> None:
    class Half(methods.Dense):
        def attach(self, model: nn.Module) -> None:  # type: ignore[override]
            """Takes too little."""

    assert tell_missing(Half()) == {"attach"}
    assert tell_missing(object()) == MEMBERS


@pytest.mark.filterwarnings("ignore:spectral-sparse. at .* every weight of")
@CASES
def test_every_method_lives_through_a_run(name: str) -> None:
    model, method = network(), methods.build(name, **({"sparsity": 0.5} if name == "sphere" else {}))
    method.prepare(model)
    build = LpSGD if name == "sphere" else torch.optim.SGD
    optimizer = build(method.param_groups(model), lr=0.1)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    x = torch.randn(6, 4)
    pruner = Pruner(model, optimizer, method, x, steps=4, examples=6)
    for _ in range(4):
        (model(x).square().mean() + pruner.penalty()).backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    json.dumps(pruner.describe())
    assert pruner.finish() is model
    assert pruner.settled
    assert pruner.finish() is model
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


@pytest.mark.filterwarnings("ignore:spectral-sparse. at .* every weight of")
@CASES
def test_a_whole_network_amid_training_is_pickled_with_what_its_method_put_there(name: str) -> None:
    """Between backward pass and step too, as a loop may save whenever it likes."""
    model, method = network(), methods.build(name, **({"sparsity": 0.5} if name == "sphere" else {}))
    method.prepare(model)
    optimizer = (LpSGD if name == "sphere" else torch.optim.SGD)(method.param_groups(model), lr=0.1)
    x, file = torch.randn(6, 4), io.BytesIO()
    pruner = Pruner(model, optimizer, method, x, steps=9, examples=6)
    for _ in range(4):
        (model(x).square().mean() + pruner.penalty()).backward()
        torch.save(model, file)
        optimizer.step()
        optimizer.zero_grad()
        pruner.step(lambda: model(x).square().mean())
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = torch.load(file, weights_only=False)
    other(x).sum().backward()
    assert torch.equal(other.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gate", {}, "no method 'gate'. Did you mean 'gates'?"),
        ("xyz", {}, "Known: dense, gates"),
        ("gates", {"prize": 1e-3}, "'gates' has no option 'prize'. Did you mean 'price'?"),
        ("dense", {"price": 1e-3}, "'dense' has no option 'price'"),
    ],
)
def test_refusals_name_the_nearest(name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        methods.build(name, **options)


def test_options_are_those_of_the_method_and_those_it_shares() -> None:
    assert {"p", "growth", "target", "remove_units", "seed"} <= set(methods.options_of(methods.Sphere))
    assert "options" not in methods.options_of(methods.Sphere)
    assert methods.options_of(methods.Dense) == ()


def test_names_are_those_of_the_table() -> None:
    assert methods.names() == tuple(METHODS)
    assert all(kind.__name__ in methods.__all__ for kind in METHODS.values() if isinstance(kind, type))
