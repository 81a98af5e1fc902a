"""Which groups a method works on: those it is told to, or all it can work on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from parsinet.errors import UsageError
from parsinet.structure import Structure

Against = Callable[[str], str]
"""A group's name → why the method cannot work on it, "" if it can."""

HEADS, WIDTHS = "heads", ("qk_dim", "v_dim", "head_dim")
"""Roles of groups: attention heads, and the features within each."""

TIED_HEADS = (
    " Heads that count the width outside attention as well, after `y.view(B, T, C)`, leave on their own after `y.view(B, T, -1)`: see "
    '"Numbers that modules keep" in docs/structure.md.'
)

UNASKED = ", so it is only taken where groups names it"
"""What is added to why the removal of a group is not exact."""

TOLD = 3
"""Names for one reason, and reasons, in an error."""


def chosen_groups(
    who: str, done: str, structure: Structure, wanted: Sequence[str] | None, against: Against, *, may_lack: bool = False
) -> list[str]:
    """Names of the groups to work on: `wanted`, or all whose removal is exact and that nothing speaks against.

    who: the method, and done: what it does to groups ("gated"), for errors. may_lack: there may be none, or none wanted.
    Raises UsageError if one of `wanted` cannot be had, if it is empty, and if there is no group at all, with the reason for each;
    StructureError for unknown names.
    """
    if wanted is None:
        reasons = {group.name: _reason(structure, group.name, against, exact_only=True) for group in structure.groups}
        chosen = [name for name, reason in reasons.items() if not reason]
        if not chosen and not may_lack:
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "it has no groups at all"
            raise UsageError(f"{who}: this network has no group of units that can be {done} ({told}).{_tied_heads(structure)}")
        return chosen
    if not wanted and not may_lack:
        raise UsageError(f"{who}: groups is empty; name the groups, or leave it out to take all that can be {done}.")
    for name in wanted:
        if reason := _reason(structure, name, against, exact_only=False):
            raise UsageError(f"{who}: group {name!r} cannot be {done}: {reason}.")
    return list(wanted)


def _tied_heads(structure: Structure) -> str:
    """What may free heads that leave, but not exactly; "" where there are none."""
    return TIED_HEADS if any(group.role == HEADS and group.removable and not group.exact for group in structure.groups) else ""


def gateable_groups(
    who: str,
    structure: Structure,
    wanted: Sequence[str] | None,
    against: Against = lambda name: "",
    *,
    weights: bool = False,
    may_lack: bool = False,
) -> list[str]:
    """`chosen_groups` of those all readers of which read through a module's input, where a gate can sit.

    Of attention that is heads as a whole: features within gated heads are chosen if `wanted` names them.
    weights: a gate may also sit in the weights that read. may_lack: there may be none, or none wanted.
    """

    chosen = chosen_groups(who, "gated", structure, wanted, against_gates(structure, against, weights=weights), may_lack=may_lack)
    return chosen if wanted is not None else [name for name in chosen if not _heads_of(structure, name, chosen)]


def _heads_of(structure: Structure, name: str, chosen: Collection[str]) -> str:
    """The group of heads among those chosen that the units of a group are features within; "" if there is none."""
    if structure.group(name).role not in WIDTHS:
        return ""
    return next((heads for heads in structure.sharing(name) if heads in chosen and structure.group(heads).role == HEADS), "")


def against_gates(structure: Structure, against: Against = lambda name: "", *, weights: bool = False) -> Against:
    """What speaks against a gate in front of what reads a group, or in the weights that read it, and then `against`."""

    def ungateable(name: str) -> str:
        if name in structure.outputs():
            return "whoever calls the model reads it, where no gate can stand"
        if structure.gateable(name) or (weights and structure.weighers(name)):
            return against(name)
        beside = ", nor can the weights that read it (two activations meet in it, or the weight that reads it makes it too)"
        return f"it is read where no module's input can be multiplied{beside if weights else ''}"

    return ungateable


def left_out(structure: Structure, chosen: Collection[str], against: Against) -> dict[str, str]:
    """Per group of units that a method does not work on why; those that could leave first."""
    others = sorted((group for group in structure.groups if group.name not in chosen), key=lambda group: not group.removable)
    return {
        group.name: _reason(structure, group.name, against, exact_only=True) or _unnamed(structure, group.name, chosen) for group in others
    }


def _unnamed(structure: Structure, name: str, chosen: Collection[str]) -> str:
    heads = _heads_of(structure, name, chosen)
    return f"{heads} are gated as a whole, and groups does not name it" if heads else "groups does not name it"


def told_left_out(reasons: Mapping[str, str]) -> str:
    """A few of the groups that are left out, by reason: ` Left out: a, b (no batch normalisation …), and 4 more.`; "" for none."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    told = {reason: names[:TOLD] for reason, names in list(by_reason.items())[:TOLD]}
    more = len(reasons) - sum(map(len, told.values()))
    parts = [*(f"{', '.join(names)} ({reason})" for reason, names in told.items()), *([f"and {more} more"] if more else [])]
    return f" Left out: {', '.join(parts)}." if parts else ""


def check_inputs(who: str, structure: Structure, wanted: Sequence[str] | None, inputs: bool) -> None:
    """UsageError if a method is asked for the network's inputs and for groups that do not name them."""
    if inputs and wanted is not None and not set(wanted) & set(structure.inputs()):
        raise UsageError(f"{who}: inputs=True, but groups does not name the inputs; add {structure.inputs()} to it, or leave one out.")


def _reason(structure: Structure, name: str, against: Against, *, exact_only: bool) -> str:
    group = structure.group(name)
    if group.kind == "block":
        return "it is a residual branch, no group of units"
    if not group.removable:
        return group.reason
    if exact_only and not group.exact:
        return f"{group.reason}{'' if against(name) else UNASKED}"
    return against(name)
