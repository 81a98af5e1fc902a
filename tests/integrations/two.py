"""What two processes of Lightning go through together: a training, the same one cut short, and resumed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from integrations.toys import METHODS, StoppedError, Toy, Watch, loader, step_loss, trainer
from parsinet.distributed import digest
from parsinet.integrations.lightning import Prune


def run(folder: Path, accumulate: int, stop: int | None = None, resume: Path | None = None) -> tuple[int, list[Any]]:
    toy, prune = Toy(), Prune(METHODS["gates"](), loss=step_loss)
    watch = Watch(prune, stop, folder / "run.ckpt")
    options = {"devices": 2, "strategy": DDPStrategy(process_group_backend="gloo"), "accumulate_grad_batches": accumulate}
    try:
        trainer([prune, watch], **options).fit(toy, loader(), ckpt_path=resume)
    except StoppedError:
        assert stop is not None
    if stop is None and os.environ["RANK"] == "0":  # the other process need not be there any more
        assert prune.finish() is toy.net
    return digest(dict(toy.state_dict())), [watch.widths[at] for at in (0, len(watch.widths) // 2, -1)]


if __name__ == "__main__":
    folder, accumulate = Path(sys.argv[1]), int(sys.argv[2])
    whole, widths = run(folder, accumulate)
    run(folder, accumulate, stop=2)
    resumed, _ = run(folder, accumulate, resume=folder / "epoch-2.ckpt")
    told = {"whole": whole, "resumed": resumed, "widths": widths}
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(told))
