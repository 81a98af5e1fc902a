"""Which networks of other people's libraries lose units, untouched and without a word about them to parsinet?

    pip install timm torchvision diffusers torch_geometric ultralytics segmentation_models_pytorch monai vit_pytorch x_transformers \
        torchaudio open_clip_torch peft
    python benchmarks/coverage/coverage.py [--library timm] [--only resnet18]
    python benchmarks/coverage/coverage.py --table

Every network (networks.py) is traced; of every removable group every second unit leaves. The result must give what the whole network gives
with the same units silenced, where the group says that it leaves exactly; a backward pass must run; and `Gates(target="macs=50%")` must
get to half of the multiply-adds within twelve steps. What stands in results/networks.jsonl is not run again. One thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import parsinet as pn
from networks import Build, networks
from parsinet import measure
from parsinet.bench import run_script
from parsinet.errors import ParsinetError
from parsinet.training.environment import commit

FOLDER = Path(__file__).parent / "results"
RECORDS, TABLE = FOLDER / "networks.jsonl", FOLDER / "table.md"
STEPS = 12
WITHIN = 0.52
OUTPUT = "it is part of the model's output"


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Every floating-point tensor of a forward pass."""
    found = model(**inputs) if isinstance(inputs, dict) else model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def loss_of(model: nn.Module, inputs: Any) -> Tensor:
    """Any loss."""
    return torch.stack([output.square().mean() for output in outputs(model, inputs)]).sum()


def judged(build: Build) -> dict[str, Any]:
    """What becomes of one network."""
    torch.manual_seed(0)
    model, inputs = build()
    model.eval()
    start = time.process_time()
    structure = pn.trace(model, inputs)
    seconds = time.process_time() - start
    groups, free = structure.groups, structure.removable()
    whole = measure.profile(model, inputs, latency=False)
    lean = copy.deepcopy(model)
    pn.shrink(lean, structure.plan({group.name: torch.arange(group.size) % 2 == 0 for group in free}))
    half = measure.profile(lean, inputs, latency=False)
    loss_of(lean.train(), inputs).backward()  # type: ignore[no-untyped-call]
    return {
        "trace_seconds": round(seconds, 1),
        "groups": len(groups),
        "removable": len(free),
        "units": sum(group.size for group in groups),
        "removable_units": sum(group.size for group in free),
        "parameters": whole.parameters,
        "macs": whole.macs,
        "halved_parameters": half.parameters,
        "halved_macs": half.macs,
        "exact_error": exact_error(model, inputs),
        "stays": {group.name: group.reason for group in groups if not group.removable},
        **gated(model, inputs, whole.macs),
    }


def exact_error(model: nn.Module, inputs: Any) -> float:
    """Largest difference of an output, over the outputs' size, between removed and silenced units of the groups that leave exactly."""
    model = copy.deepcopy(model).double().eval()
    inputs = tree_map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs)
    structure = pn.trace(model, inputs)
    plan = structure.plan({group.name: torch.arange(group.size) % 2 == 0 for group in structure.removable() if group.exact})
    with torch.no_grad(), pn.silence(model, plan):
        silenced = [output.clone() for output in outputs(model, inputs)]
    pn.shrink(model, plan)
    with torch.no_grad():
        removed = outputs(model, inputs)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(removed, silenced, strict=True))


def gated(model: nn.Module, inputs: Any, macs: int) -> dict[str, Any]:
    """Multiply-adds after a short training with gates, or why there was none."""
    lean = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(lean.parameters(), 1e-3)
    try:
        pruner = pn.Pruner(lean, optimizer, pn.methods.Gates(target="macs=50%"), inputs, steps=STEPS)
        for _ in range(STEPS):
            loss_of(lean, inputs).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        return {"gated_macs": measure.profile(pruner.finish().eval(), inputs, latency=False).macs / macs}
    except ParsinetError as error:
        return {"gates": str(error)}


def records() -> list[dict[str, Any]]:
    """What was found so far."""
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []


def table(found: list[dict[str, Any]]) -> str:
    """One line per library, and one row per network."""
    found = sorted(found, key=lambda row: str(row["library"]))
    lines = [summary([row for row in found if row["library"] == library]) for library in dict.fromkeys(row["library"] for row in found)]
    head = (
        "library",
        "network",
        "units that may leave",
        "parameters without every second unit",
        "MACs",
        "gates, asked for 50 %",
        "what stays",
    )
    rows = [head, ("---",) * len(head), *map(cells, found)]
    return "\n".join([*lines, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def summary(rows: list[dict[str, Any]]) -> str:
    """Of one library, how many lose units."""
    traced = [row for row in rows if row.get("removable")]
    halved = [row for row in traced if row.get("gated_macs", 1.0) <= WITHIN]
    return (
        f"- {rows[0]['library']} {rows[0]['version']}: {len(traced)} of {len(rows)} networks lose units, "
        f"{len(halved)} get to half of their multiply-adds with gates."
    )


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A network's row; of what stays, all but the output."""
    if "error" in row:
        return row["library"], row["network"], "–", "–", "–", "–", row["error"]
    return (
        row["library"],
        row["network"],
        f"{row['removable_units'] / row['units']:.1%}",
        f"{row['halved_parameters'] / row['parameters']:.0%}",
        f"{row['halved_macs'] / row['macs']:.0%}",
        f"{row['gated_macs']:.0%}" if "gated_macs" in row else f"– ({row['gates'].split('. ')[0]})",
        "; ".join(dict.fromkeys(reason for reason in row["stays"].values() if reason != OUTPUT)),
    )


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", action="append", help="only this library; repeatable")
    parser.add_argument("--only", action="append", help="only this network; repeatable")
    parser.add_argument("--table", action="store_true", help="only write the table from the records")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    found = records()
    done = {(row["library"], row["network"]) for row in found}
    for library, name, build in [] if options.table else networks():
        chosen = (not options.library or library in options.library) and (not options.only or name in options.only)
        if not chosen or (library, name) in done:
            continue
        try:
            result = judged(build)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        row = {
            "library": library,
            "network": name,
            "version": metadata.version(library),
            "torch": torch.__version__,
            "commit": commit(),
            **result,
        }
        with RECORDS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        found.append(row)
        print(
            library,
            name,
            result.get("error") or f"{result['removable']} of {result['groups']} groups, error {result['exact_error']:.0e}",
            flush=True,
        )
    TABLE.write_text(table(found))


if __name__ == "__main__":
    run_script(main)
