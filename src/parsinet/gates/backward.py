"""Whether code runs within a backward pass: gradient checkpointing runs parts of a network again there."""

import torch

from parsinet.errors import RunError


def in_backward() -> bool:
    """True within a backward pass, on whichever thread of autograd."""
    return bool(torch._C._current_graph_task_id() != -1)


def check_first(who: str) -> None:
    """Before a whole network draws for a forward pass: RunError within a backward pass, which the first draw belonged to."""
    if in_backward():
        raise RunError(
            f"{who}: the whole network runs again in the backward pass (gradient checkpointing around the call of the model), with other "
            "draws than those the loss came from. Checkpoint parts of it instead: blocks or layers within its forward."
        )
