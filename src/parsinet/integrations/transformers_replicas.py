"""Replicas in the place of the DDP wrapper that accelerate has put around the Trainer's model, and that cannot follow a removal."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments

from parsinet.distributed import Replicas
from parsinet.errors import UsageError


class Wrapping:
    """Notes the wrapper as it is put around the model: the Trainer's loop calls that, and shows it to no callback."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._wrapper: DistributedDataParallel | None = None
        self._handle = register_module_module_registration_hook(self._note)
        weakref.finalize(model, self._handle.remove)

    def _note(self, module: nn.Module, name: str, part: Any) -> None:
        if isinstance(module, DistributedDataParallel) and part is self._model():
            self._wrapper = module

    def replicas(self, args: TrainingArguments) -> Replicas:
        """The model's replicas; from now on the wrapper hands all calls on to them. UsageError if there is no plain wrapper."""
        self._handle.remove()
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is None:
            raise UsageError(
                f"Prune: with {args.world_size} processes the model must train as plain replicas, but the Trainer has not wrapped it in "
                "DistributedDataParallel. Leave parallelism_config and sharding out, and let some of its parameters train."
            )
        if wrapper._comm_hooks:
            raise UsageError("Prune: communication hooks of DistributedDataParallel are not supported. Leave comm_hook out.")
        wrapper.reducer = wrapper.logger = None  # type: ignore[assignment]  # its hooks on the parameters go with them
        replicas = Replicas(wrapper.module, **_options(wrapper, args))
        wrapper.forward, wrapper.no_sync = replicas.forward, replicas.no_sync  # type: ignore[method-assign]
        return replicas


def _options(wrapper: DistributedDataParallel, args: TrainingArguments) -> dict[str, Any]:
    """How the wrapper was built."""
    kept = ("device_ids", "output_device", "process_group", "find_unused_parameters", "static_graph")
    options = {name: getattr(wrapper, name) for name in kept}
    if not wrapper.broadcast_buffers:
        options["broadcast_buffers"] = False
    if args.ddp_bucket_cap_mb is not None:
        options["bucket_cap_mb"] = args.ddp_bucket_cap_mb
    return options
