"""Labels: what unites, splits and freezes; a random program of unions against a twin that closes sets by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsinet.structure.axes import NONE, Axis, concatenate, fixed, labelled, part
from parsinet.structure.labels import Labels


def axis(labels: Labels, size: int) -> Axis:
    return labelled(labels.fresh(size)[None])


def same(labels: Labels, one: Axis, other: Axis) -> bool:
    return bool(np.array_equal(labels.resolve(one), labels.resolve(other)))


def frozen(labels: Labels, one: Axis) -> list[bool]:
    """Per index, whether one of its labels is frozen."""
    return [any(labels.reason(int(root)) for root in column if root != NONE) for column in labels.resolve(one).T]


def test_axes_that_meet_are_united_index_by_index() -> None:
    labels = Labels()
    a, b, c = (axis(labels, 4) for _ in range(3))
    labels.unify(a, b, "here")
    labels.unify(labelled(b.rows[:, ::-1]), c, "here")
    assert same(labels, a, b)
    assert same(labels, a, labelled(c.rows[:, ::-1]))
    assert len(np.unique(labels.resolve(a))) == 4


def test_an_axis_that_meets_a_fixed_one_is_frozen_with_the_place() -> None:
    labels = Labels()
    a, b = axis(labels, 3), axis(labels, 3)
    labels.unify(a, b, "here")
    labels.unify(a, fixed(3), "`add` at net.py:7")
    assert all(frozen(labels, b))
    assert labels.reason(int(labels.resolve(b)[0, 0])) == "meets an axis of fixed size at `add` at net.py:7"


def test_what_is_not_understood_hands_its_reason_on() -> None:
    labels = Labels()
    a, b = axis(labels, 3), axis(labels, 3)
    mixed = labels.unify(a, Axis(3, why="`fft` is not understood"), "`add`")
    labels.unify(b, mixed, "`mul`")
    assert labels.reason(int(labels.resolve(b)[0, 0])) == "`fft` is not understood"


def test_a_free_axis_constrains_nothing() -> None:
    labels = Labels()
    a = axis(labels, 3)
    assert same(labels, labels.unify(Axis(3, free=True), a, "here"), a)
    assert not any(frozen(labels, a))


def test_a_split_axis_becomes_a_product_and_merges_back() -> None:
    labels = Labels()
    a = axis(labels, 6)
    heads, dims = labels.split(a, (2, 3), "here")
    rows = labels.resolve(a)
    assert rows.shape == (2, 6)
    assert {tuple(column) for column in rows.T} == {(h, d) for h in labels.resolve(heads)[0] for d in labels.resolve(dims)[0]}
    assert same(labels, labels.merge([heads, dims]), a)


def test_uniting_two_products_unites_their_factors() -> None:
    labels = Labels()
    a, b = axis(labels, 6), axis(labels, 6)
    parts = [labels.split(one, (3, 2), "here") for one in (a, b)]
    labels.unify(a, b, "here")
    assert all(same(labels, *pair) for pair in zip(*parts, strict=True))


def test_uniting_a_product_with_a_plain_axis_factors_it() -> None:
    labels = Labels()
    a, b = axis(labels, 6), axis(labels, 6)
    labels.unify(a, b, "here")
    labels.split(a, (3, 2), "here")
    assert labels.resolve(b).shape == (2, 6)


def pair(labels: Labels, size: int, inner: int) -> tuple[Axis, Axis, Axis]:
    """Two factors of the given sizes, and the axis that a view makes of both."""
    one, other = axis(labels, size), axis(labels, inner)
    return one, other, labels.merge([one, other])


def test_a_factor_whose_indices_are_one_takes_those_it_meets_along() -> None:
    """After `b[:, :, 1:] + b[:, :, :-1]` all bases are one; weights that read them flat have one for each."""
    labels = Labels()
    features, bases, flat = pair(labels, 4, 3)
    labels.unify(part(bases, slice(1, None)), part(bases, slice(0, 2)), "here")
    others, curves, read = pair(labels, 4, 3)
    labels.unify(flat, read, "there")
    assert same(labels, features, others)
    assert len(np.unique(labels.resolve(features))) == 4
    assert len(np.unique(labels.resolve(labelled(np.append(bases.rows, curves.rows, axis=1))))) == 1
    assert not any(frozen(labels, read))


def test_the_order_of_factors_does_not_matter() -> None:
    labels = Labels()
    features, bases, flat = pair(labels, 4, 3)
    labels.unify(part(bases, slice(1, None)), part(bases, slice(0, 2)), "here")
    others, _, read = pair(labels, 4, 3)
    labels.unify(labelled(flat.rows[::-1]), read, "there")
    assert same(labels, features, others)
    assert not any(frozen(labels, read))


def test_factors_that_could_meet_in_two_ways_stay() -> None:
    """Each of two labels that all indices carry could be the rows' or the columns'."""
    labels = Labels()
    alike = labelled(np.repeat(labels.fresh(2)[:, None], 6, axis=1))
    read = pair(labels, 2, 3)[2]
    labels.unify(alike, read, "there")
    assert all(frozen(labels, alike))
    assert all(frozen(labels, read))


def test_factors_that_cross_stay() -> None:
    labels = Labels()
    one, other = pair(labels, 2, 3)[2], pair(labels, 3, 2)[2]
    labels.unify(one, other, "there")
    assert all(frozen(labels, one))
    assert all(frozen(labels, other))


def test_freezing_a_product_travels_to_its_factors() -> None:
    labels = Labels()
    a = axis(labels, 6)
    heads, dims = labels.split(a, (3, 2), "here")
    labels.freeze(labelled(a.rows[:, :1]), "because")
    assert frozen(labels, heads) == [True, False, False]
    assert frozen(labels, dims) == [True, False]


def test_freezing_one_factor_leaves_the_other_free() -> None:
    labels = Labels()
    heads, dims = labels.split(axis(labels, 6), (3, 2), "here")
    labels.freeze(heads, "because")
    assert not any(frozen(labels, dims))


@pytest.mark.parametrize("later", [(2, 6), (6, 2), (4, 3)])
def test_a_second_split_couples_or_freezes_but_never_loses_an_index(later: tuple[int, int]) -> None:
    """12 = 3 · 4 and then another way: whatever may still leave takes whole blocks of both views with it."""
    labels = Labels()
    a = axis(labels, 12)
    first = labels.split(a, (3, 4), "here")
    second = labels.split(a, later, "there")
    rows = labels.resolve(a)
    for root in np.unique(rows[rows != NONE]):
        if labels.reason(int(root)) is None:
            gone = (rows == root).any(axis=0)
            assert rectangular(gone.reshape(3, 4))
            assert rectangular(gone.reshape(later))
    assert {one.size for one in first} | {one.size for one in second} == {3, 4, *later}


def rectangular(gone: np.ndarray) -> bool:
    """What is left of the grid is again a grid."""
    left = ~gone
    return bool((left == np.outer(left.any(axis=1), left.any(axis=0))).all())


def test_a_product_is_never_its_own_factor() -> None:
    labels = Labels()
    a = axis(labels, 6)
    heads, _ = labels.split(a, (3, 2), "here")
    labels.unify(part(a, slice(0, 3)), heads, "there")
    assert all(frozen(labels, heads))
    labels.resolve(a)


def test_a_split_of_partly_fixed_indices_freezes() -> None:
    labels = Labels()
    a = axis(labels, 4)
    labels.split(concatenate([a, fixed(2)]), (2, 3), "here")
    assert all(frozen(labels, a))


def test_the_reason_given_first_stays() -> None:
    labels = Labels()
    a, b = axis(labels, 2), axis(labels, 2)
    labels.freeze(a, "first")
    labels.freeze(b, "second")
    labels.unify(a, b, "here")
    assert labels.reason(int(labels.resolve(b)[0, 0])) in ("first", "second")
    labels.freeze(b, "third")
    assert labels.reason(int(labels.resolve(a)[0, 0])) != "third"


STEPS = st.lists(st.tuples(st.sampled_from(["unite", "freeze"]), st.integers(0, 4), st.integers(0, 4)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_unions_agree_with_closing_sets_by_hand(steps: list[tuple[str, int, int]]) -> None:
    """Five axes of four indices; the second of each pair is met in reversed order."""
    labels = Labels()
    axes = [axis(labels, 4) for _ in range(5)]
    sets = [{(k, i)} for k in range(5) for i in range(4)]
    stuck: set[tuple[int, int]] = set()
    for kind, left, right in steps:
        if kind == "freeze":
            labels.freeze(part(axes[left], slice(0, 1)), "because")
            stuck.add((left, 0))
            continue
        labels.unify(axes[left], labelled(axes[right].rows[:, ::-1]), "here")
        for i in range(4):
            first = next(one for one in sets if (left, i) in one)
            second = next(one for one in sets if (right, 3 - i) in one)
            if first is not second:
                sets.remove(second)
                first |= second
    for members in sets:
        roots = {int(labels.resolve(axes[k])[0, i]) for k, i in members}
        assert len(roots) == 1
        assert (labels.reason(roots.pop()) is not None) == bool(members & stuck)
    assert len({int(root) for one in axes for root in labels.resolve(one)[0]}) == len(sets)
