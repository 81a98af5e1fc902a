"""What a loop under Hugging Face Accelerate needs so that its model can shrink: replicas instead of DDP, and checkpoints that fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from parsinet.distributed import ALONE, Ranks, Replicas
from parsinet.errors import MissingExtraError, RunError, UsageError
from parsinet.methods import Pruner
from parsinet.training.checkpoint import load_checkpoint, save_checkpoint

try:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, DynamoBackend
except ImportError as error:
    raise MissingExtraError("Loops under Accelerate need accelerate: pip install 'parsinet[accelerate]'.") from error

__all__ = ["prepare_model", "register_for_checkpointing"]
FOLDER = "parsinet"
"""Where a checkpoint of Accelerate holds what the pruner knows."""
REFUSED = {
    DistributedType.FSDP: "FSDP (parsinet.distributed.Sharded shards a model that can shrink)",
    DistributedType.DEEPSPEED: "DeepSpeed",
    DistributedType.MEGATRON_LM: "Megatron-LM",
    DistributedType.XLA: "XLA",
}


def prepare_model(accelerator: Accelerator, model: nn.Module, **options: Any) -> nn.Module:
    """What `accelerator.prepare(model)` gives, but able to shrink: on its device, in its precision, `Replicas` in the place of DDP.

        model = prepare_model(accelerator, model)
        prepared, batches = accelerator.prepare(optimizer, loader)
        pruner = pn.Pruner(model, prepared.optimizer, method, inputs, steps=steps, scaler=accelerator.scaler)
        register_for_checkpointing(accelerator, pruner)

    In one process that is the model itself. options: those of `Replicas`, such as `find_unused_parameters`; one process needs none.
    Errors: UsageError for FSDP, DeepSpeed, Megatron-LM, XLA, tensor parallelism and compilation, under which units cannot leave, for a
    model that is prepared already, and for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"prepare_model: takes the accelerator and a torch.nn.Module, got a {type(model).__name__}.")
    kind = REFUSED.get(accelerator.distributed_type)
    if accelerator.state.dynamo_plugin.backend != DynamoBackend.NO:
        kind = "a dynamo backend (compile the lean model after training)"
    if getattr(accelerator.parallelism_config, "tp_enabled", False):
        kind = "tensor parallelism"
    if kind is not None:
        raise UsageError(f"prepare_model: units cannot leave a model under {kind}. Train whole copies of it, in one or several processes.")
    if getattr(model, "_is_accelerate_prepared", False) or isinstance(model, nn.parallel.DistributedDataParallel):
        raise UsageError("prepare_model: the model is prepared already. Give it here alone, and the rest to accelerator.prepare.")
    placed = accelerator.prepare_model(model, evaluation_mode=True)
    return Replicas(placed, **options) if accelerator.num_processes > 1 else placed


def register_for_checkpointing(accelerator: Accelerator, pruner: Pruner) -> None:
    """Let `accelerator.save_state(folder)` and `load_state(folder)` keep what has left, and the method's own state.

    The checkpoint gets a folder `parsinet` (JSON and safetensors). `load_state` wants everything built anew, as at the first start: what
    had left leaves again before Accelerate loads the weights and the optimizer, which have the small shapes. Of several processes rank 0
    alone writes and reads that folder, and what it cannot do is an error on all.

    Errors: UsageError if the accelerator does not hold the pruner's model; while loading RunError for a checkpoint without that folder, and
    those of `Pruner.load_state_dict`.
    """
    if not any(model is pruner.model for model in accelerator._models):
        raise UsageError(
            "register_for_checkpointing: the accelerator does not hold this pruner's model, so its checkpoints would lack the weights. "
            "Prepare it by parsinet.integrations.accelerate.prepare_model(accelerator, model)."
        )

    ranks = Ranks.of() if accelerator.num_processes > 1 else ALONE

    def save(models: list[nn.Module], weights: list[Any], folder: str) -> None:
        state = pruner.state_dict()
        ranks.first(lambda: save_checkpoint(Path(folder) / FOLDER, state["step"], state, keep=1))

    def load(models: list[nn.Module], folder: str) -> None:
        pruner.load_state_dict(ranks.first(lambda: _saved(Path(folder) / FOLDER)))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _saved(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise RunError(f"{path} does not exist: the checkpoint was saved before this pruner was registered, or without it.")
    return load_checkpoint(path).state
