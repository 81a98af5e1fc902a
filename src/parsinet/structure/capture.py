"""The graph a network is understood by: that of evaluation, or that of training where training looks at more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from torch import nn

from parsinet.draws import Place
from parsinet.errors import StructureError
from parsinet.structure.blocks_calls import Called, calls_noted
from parsinet.structure.calling import ExampleInputs
from parsinet.structure.copies import duplicate
from parsinet.structure.dynamic import Sizes
from parsinet.structure.export import Exported
from parsinet.structure.groups import Layout
from parsinet.structure.in_training import first_training_pass, used
from parsinet.structure.kept import export_watched
from parsinet.structure.origins import module_path
from parsinet.structure.packing import shares
from parsinet.structure.propagate import Rules, understands
from parsinet.structure.running import Call


@dataclass(frozen=True)
class Captured:
    """exported: the graph. call: what it was captured on. calls: those of modules, where they were to be noted. training: a call on which
    the network trains, if it does. evaluated: the modules that evaluation runs. coins: whether its code draws from Python or NumPy, of
    which the graph holds what came out. times: how often every example is in the graph."""

    exported: Exported
    call: Call
    calls: dict[str, list[Called]]
    training: Call | None
    evaluated: AbstractSet[str]
    coins: bool
    times: int = 1

    def completed(self, layout: Layout, model: nn.Module) -> Layout:
        """The layout with the work of evaluation alone, on the example inputs, and the parameters these do not reach."""
        sizes = Sizes(self.exported, model, self.call)
        share = shares(duplicate(model), self.call.on, self.exported.packed) if self.exported.packed else {}
        work = (
            replace(entry, fixed=int(sizes.of(entry.fixed) * share.get(entry.module, 1)) // self.times)
            for entry in layout.work
            if entry.module in self.evaluated
        )
        everywhere, names = model.named_parameters(remove_duplicate=False), used(self.exported)
        reached = {id(parameter) for name, parameter in everywhere if name in names}
        unreached = frozenset(name for name, parameter in model.named_parameters() if id(parameter) not in reached)
        return replace(layout, work=tuple(work), unreached=unreached)


def capture(twin: nn.Module, example_inputs: ExampleInputs, own: Rules, *, blocks: bool) -> Captured:
    """Export a copy of the network, in evaluation mode. own: the caller's rules. blocks: whether calls of modules are noted.

    Raises StructureError if torch.export cannot capture it; what it cannot capture in training is left to the trials.
    """
    exported, calls, coins = _export(twin, example_inputs, own, noted=blocks)
    evaluated = frozenset(module_path(node) for node in exported.graph.nodes)
    training = first_training_pass(twin, example_inputs)
    found = Captured(exported, Call.of(example_inputs), calls, None if training is None else training.call, evaluated, coins)
    if training is None or not training.beyond(exported):
        return found
    try:
        larger, calls, coins = _export(twin.train(), training.call.kwargs or training.call.args, own, noted=blocks)
    except StructureError:
        return found
    finally:
        twin.eval()
    if not used(exported) <= used(larger):
        return found
    return replace(found, exported=larger, call=training.call, calls=calls, coins=found.coins or coins, times=training.times)


def _export(twin: nn.Module, inputs: ExampleInputs, own: Rules, *, noted: bool) -> tuple[Exported, dict[str, list[Called]], bool]:
    with contextlib.ExitStack() as noting:
        calls = noting.enter_context(calls_noted(twin)) if noted else {}
        coins = noting.enter_context(_draws_repeated(twin))
        exported = export_watched(twin, inputs, lambda target: understands(target, own))
        return exported, calls, bool(coins)


@contextlib.contextmanager
def _draws_repeated(twin: nn.Module) -> Iterator[list[str]]:
    """Within, every pass draws from Python and NumPy what a `Call` made now does: an export runs the network several times.

    Gives whose numbers passes draw, once for each.
    """
    start, found = Place.now(), list[str]()
    before = twin.register_forward_pre_hook(lambda _module, _args: start.take(), prepend=True)
    after = twin.register_forward_hook(lambda _module, _args, _output: found.extend(start.moved(Place.now())))
    try:
        with start.drawn_from():
            yield found
    finally:
        before.remove()
        after.remove()
