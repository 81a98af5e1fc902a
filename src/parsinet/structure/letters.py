"""Einstein sums written out: what an ellipsis stands for, what is left where no result is named."""

from __future__ import annotations

import string
from collections.abc import Sequence

DOTS = "..."


def terms_of(equation: str, dims: Sequence[int]) -> tuple[list[str], str]:
    """The letters of every operand and of the result, one for each dimension. dims: how many the operands have.

    "...i,io->...o" of a [2, 3, 4] and a [4, 5] → (["abi", "io"], "abo"), with letters that the equation has not; a shorter ellipsis
    has the last of them, as in broadcasting. Without an arrow the result has the letters that stand once, in alphabetical order.
    """
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    given = inputs.split(",")
    hidden = [size - len(term.replace(DOTS, "")) if DOTS in term else 0 for term, size in zip(given, dims, strict=True)]
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    names = "".join(unused[: max(hidden)])
    if not arrow:
        letters = inputs.replace(DOTS, "").replace(",", "")
        result = DOTS + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    written = [term.replace(DOTS, names[len(names) - count :]) for term, count in zip(given, hidden, strict=True)]
    return written, result.replace(DOTS, names)
