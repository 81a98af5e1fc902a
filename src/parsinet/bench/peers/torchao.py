"""torchao's pruning-aware optimizer: group lasso on rows of the weights, which leave at the end where all zero, or lasso on single ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from parsinet.bench.peers.peer import train_on
from parsinet.bench.watch import Watch
from parsinet.methods import Dense
from parsinet.methods.options import check_known
from parsinet.structure import shrink
from parsinet.training.assembly import Assembly
from parsinet.training.optimizer import build_optimizer

GROUPS = {
    "rows": {"group_type": "Dim0Grouper", "prox_type": "ProxGroupLasso"},
    "weights": {"group_type": "ElemGrouper", "prox_type": "ProxLasso"},
}
"""What is zero together, and the library's words for it."""


def torchao(options: Mapping[str, Any], parts: Assembly, watch: Watch) -> nn.Module:
    """`PruneOptimizer` (torchao.prototype.pat): the recipe's optimizer under proximal steps of strength `lam` up to a share `begin` of the
    run; then zeros stay zeros while the rest trains on. groups: "rows" or "weights". The library leaves zeros in place; units whose rows
    are zero leave here, their constants folded into the next biases, by our engine; single weights stay zeros.

    Errors: UsageError for other groups.
    """
    check_known("torchao", "groups", options["groups"], GROUPS)
    from torchao.prototype.pat.optim import PruneOptimizer

    fixed = set(options["fixed"])
    layers = {name: module for name, module in parts.model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    pruned = {id(layer.weight) for name, layer in layers.items() if name not in fixed}
    told = {**GROUPS[options["groups"]], "reg_lambda": options["lam"]}
    groups = []
    for group in Dense().param_groups(parts.model):
        own = [parameter for parameter in group["params"] if id(parameter) in pruned]
        rest = [parameter for parameter in group["params"] if id(parameter) not in pruned]
        groups += [part for part in ({**group, "params": rest}, {**group, "params": own, **told}) if part["params"]]
    base = build_optimizer(parts.recipe.optimizer, groups)
    train_on(parts, parts.model, [watch], optimizer=PruneOptimizer(base, healing_start_step=round(options["begin"] * parts.steps)))
    if options["groups"] == "rows":
        _let_go_of_zero_rows(parts)
    return parts.model


@torch.no_grad()
def _let_go_of_zero_rows(parts: Assembly) -> None:
    """Units whose incoming weights are all zero; a group keeps its largest."""
    structure, alive = parts.pruner.structure, {}
    for group in structure.removable():
        weight = parts.model.get_submodule(group.name).weight
        if isinstance(weight, Tensor) and len(weight) == group.size:
            norms = weight.flatten(1).norm(dim=1)
            alive[group.name] = (norms > 0) | (torch.arange(group.size) == norms.argmax())
    shrink(parts.model, structure.plan(alive), fold="constant", example_inputs=parts.example_inputs)
