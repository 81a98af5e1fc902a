"""Whether code runs within a backward pass: gradient checkpointing runs parts of a network again there."""

import torch


def in_backward() -> bool:
    """True within a backward pass, on whichever thread of autograd."""
    return bool(torch._C._current_graph_task_id() != -1)
