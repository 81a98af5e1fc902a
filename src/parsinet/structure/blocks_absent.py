"""What stands in for a module that has left: the same object without parameters, answering with zeros of the shape it always returned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

Window = tuple[tuple[int, int], ...]
"""Per position axis (offset, stride): n positions become (n + offset) // stride + 1."""

SIZE = "answer_size"
"""Under which name an absent module keeps the size of the axis that is another than its argument's."""


@dataclass(frozen=True)
class Answer:
    """The shape of what a module returns, told by what it is called with.

    entries: per returned tensor the argument (position or keyword) that has its shape, None for a returned None; single: one tensor, no
    tuple. axis: the axis, counted from the end, that has `size` indices instead of the argument's; window: the positions behind it.
    same: no zeros, but the argument itself.
    """

    entries: tuple[int | str | None, ...]
    single: bool = True
    axis: int | None = None
    size: int = 0
    window: Window = ()
    same: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> Answer:
        """The inverse; TypeError, KeyError or ValueError for content of another form."""
        window = tuple((int(offset), int(stride)) for offset, stride in content["window"])
        axis = None if content["axis"] is None else int(content["axis"])
        return Answer(tuple(content["entries"]), bool(content["single"]), axis, int(content["size"]), window, bool(content["same"]))


class Absent(nn.Module):
    """A module that has left. An existing module becomes one by `depart`: its object, hooks and plain attributes stay, its parameters,
    buffers and children are gone (a parameter reads as None). It returns zeros whatever it is called with, or, where that is all that was
    left of it, what it is called with."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros of the shape the module would have returned, new at every call: the caller may write into them. Or its input."""
        answer: Answer = self.__dict__["answer"]
        given: dict[int | str, Any] = dict(enumerate(args))
        given.update(kwargs)
        made = [None if entry is None else self._answer(given[entry], answer) for entry in answer.entries]
        return made[0] if answer.single else tuple(made)

    def _answer(self, x: Tensor, answer: Answer) -> Tensor:
        if answer.same:
            return x
        if answer.axis is None:
            return torch.zeros_like(x)
        shape: list[Any] = list(x.shape)
        shape[answer.axis] = self.__dict__[SIZE]
        for d, (offset, stride) in enumerate(answer.window, -len(answer.window)):
            shape[d] = (x.shape[d] + offset) // stride + 1
        return x.new_zeros(shape)

    def extra_repr(self) -> str:
        """What it answers."""
        return "its input" if self.__dict__["answer"].same else "zeros"


def depart(module: nn.Module, answer: Answer) -> None:
    """Turn a module into an absent one, in place. Tables are replaced, not emptied, so that whoever holds the old ones can undo it."""
    module.__dict__["_parameters"] = dict.fromkeys(module._parameters)
    module.__dict__["_buffers"] = dict.fromkeys(module._buffers)
    module.__dict__["_modules"] = {}
    module.__dict__["answer"] = answer
    module.__dict__[SIZE] = answer.size
    module.__class__ = Absent


def lay_bare(module: nn.Module, name: str, ones: Tensor) -> None:
    """Turn a parameter that nothing depends on any more into ones that are neither trained nor saved: code that reads it still runs."""
    module.__dict__["_parameters"] = {key: value for key, value in module._parameters.items() if key != name}
    module.__dict__["_buffers"] = {**module._buffers, name: ones}
    module.__dict__["_non_persistent_buffers_set"] = module._non_persistent_buffers_set | {name}
