"""Which units a network has: numbers and reasons."""

from collections.abc import Callable

from parsinet.training import Recipe, inspect

Recipes = Callable[..., Recipe]


def test_groups_of_an_mlp_on_its_data(small: Recipes) -> None:
    first, second, last = inspect(small()).groups
    assert (first.name, first.size, first.removable, first.exact) == ("fc1", 24, True, True)
    assert first.parameters == 64 * 24 + 24 + 24 * 16
    assert second.parameters == 24 * 16 + 16 + 16 * 10
    assert (last.size, last.removable) == (10, False)
    assert last.reason


def test_input_shape_instead_of_data_and_ignored_layers(small: Recipes) -> None:
    first, *_, last = inspect(small(ignored_layers=["fc1"]), (3, 5), classes=4).groups
    assert first.parameters == 15 * 24 + 24 + 24 * 16
    assert not first.removable
    assert last.size == 4


def test_the_share_counts_every_parameter_once(small: Recipes) -> None:
    found = inspect(small())
    assert found.parameters == 64 * 24 + 24 + 24 * 16 + 16 + 16 * 10 + 10
    assert found.removable == found.parameters - 10, "all but the output's bias lose entries"
    plain = found.plain()
    assert list(plain) == ["model", "parameters", "removable_share", "groups"]
    assert plain["removable_share"] == round(1 - 10 / found.parameters, 4)
