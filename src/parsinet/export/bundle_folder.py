"""A folder to hand on: weights, structure, a module of plain torch that loads them, and a model card."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from parsinet import files, measure
from parsinet.errors import ExportError, UsageError
from parsinet.export.agreement import compare
from parsinet.export.capturing import capture, settled
from parsinet.export.card import Facts, card
from parsinet.export.exported import Exported, size_of
from parsinet.export.source_code import Source, written
from parsinet.measure import ExampleInputs
from parsinet.measure.examples import tensors
from parsinet.structure import save
from parsinet.structure.storage import STRUCTURE, WEIGHTS

CONSTANTS = "constants.safetensors"
FORMAT = 1
LICENSE = re.compile(r"[a-z0-9][a-z0-9.\-]*")

TEMPLATE = '''"""{title}: a network for inference in plain torch, written by parsinet from its exported graph.

Needs torch and safetensors. `load()` checks the weights beside this file and puts them in place; nothing here reads a pickle.
"""

import hashlib
{imports}from pathlib import Path

import torch
from safetensors.torch import load as read_tensors
from torch import Tensor, nn

aten = torch.ops.aten
FILES = {files}
"""File of tensors → SHA-256."""
BUFFERS = {buffers}
"""Entries of the state that are no parameters."""


class Network(nn.Module):
    """Every parameter has the name it had in the network this was written from. Always in evaluation mode."""

    def __init__(self, entries: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in entries.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]
            if name in BUFFERS:
                module.register_buffer(last, tensor)
            else:
                module.register_parameter(last, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))

    def forward(self, {arguments}):
        {lines}


def load(folder: str | Path = Path(__file__).parent) -> Network:
    """The network with the weights in `folder`. Raises ValueError for a file that is not the one that was written."""
    entries: dict[str, Tensor] = {{}}
    for name, checksum in FILES.items():
        content = (Path(folder) / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != checksum:
            raise ValueError(f"{{name}} is damaged or was replaced: its SHA-256 is not the one in model.py.")
        entries |= read_tensors(content)
    return Network(entries).eval()
'''

EXAMPLE = """import json
from pathlib import Path

import torch

from model import load

config = json.loads(Path("config.json").read_text(encoding="utf-8"))
network = load()
{inputs}
with torch.inference_mode():
    scores = network(x)
print(list(scores.shape), scores.argmax(-1).flatten()[:8].tolist())
"""


def bundle(model: nn.Module, example_inputs: ExampleInputs, folder: str | os.PathLike[str], *, facts: Facts | None = None) -> Exported:
    """Write a folder that needs torch and safetensors only, no parsinet and no class of the network: for a hub, a colleague, an archive.

    model.safetensors and structure.json as `parsinet.save` writes them (so `parsinet.load` reads the folder too), model.py with the graph
    of the network as Python and the checksums of the weights, config.json with what inputs look like, and README.md, a card for the
    Hugging Face Hub. model.py is run on all example inputs before the folder takes its name. facts: what the card says of the data and of
    the training.

    Errors: ExportError if the graph cannot be written as plain torch or computes something else; StorageError if the folder is taken or
    cannot be written; UsageError if the model takes other than one tensor, or facts.license is no identifier.
    """
    folder, facts = Path(folder), facts or Facts(name=type(model).__name__)
    files.check_free(folder)
    if not LICENSE.fullmatch(facts.license):
        raise UsageError(f"bundle: the licence is an identifier such as apache-2.0, mit or other, got {facts.license!r}.")
    model, inputs = settled(model, example_inputs)
    if len(tensors(inputs)) != 1:
        raise UsageError(f"bundle: takes networks of one input tensor, got {len(tensors(inputs))} tensors.")
    (x,) = tensors(inputs)
    program = capture(model, inputs)
    with files.whole_folder(folder) as unfinished:
        save(model, unfinished)
        aliases = json.loads((unfinished / STRUCTURE).read_text(encoding="utf-8"))["shared"]
        _write(unfinished, model, written(program, aliases), facts, x)
        agreement = compare("The bundle", model, _loaded(unfinished), inputs)
    return Exported(folder, size_of(folder), agreement)


def _loaded(folder: Path) -> nn.Module:
    """The network of model.py."""
    try:
        network: nn.Module = runpy.run_path(str(folder / "model.py"))["load"]()
    except Exception as error:
        raise ExportError(f"The bundle cannot be loaded back: {type(error).__name__}: {error}") from error
    return network


def _write(folder: Path, model: nn.Module, source: Source, facts: Facts, x: Tensor) -> None:
    """Everything beside weights and structure."""
    if source.constants:
        kept = {name: tensor.detach().contiguous().clone() for name, tensor in source.constants.items()}
        files.write_bytes(folder / CONSTANTS, tensors_to_bytes(kept, metadata={"format": "pt"}))
    files.write_text(folder / "model.py", _code(folder, model, source, facts.name))
    shape, dtype = tuple(x.shape[1:]), str(x.dtype).removeprefix("torch.")
    config = {"format": FORMAT, "architecture": facts.name, "input_shape": shape, "dtype": dtype}
    config |= {"classes": facts.classes, "mean": facts.mean, "std": facts.std}
    files.write_text(folder / "config.json", json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    example = EXAMPLE.format(inputs=_example(x, facts))
    files.write_text(folder / "README.md", card(facts, measure.profile(model, x, latency=False), shape, dtype, example))


def _code(folder: Path, model: nn.Module, source: Source, title: str) -> str:
    names = [WEIGHTS, *([CONSTANTS] if source.constants else [])]
    checksums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    buffers = [name for name, _ in model.named_buffers() if name in model.state_dict()]
    return TEMPLATE.format(
        title=re.sub(r"[^\w .:/-]", "", title),
        imports="import operator\n" if any("operator." in line for line in source.lines) else "",
        files=_block("{", (f"{name!r}: {checksum!r}" for name, checksum in checksums.items()), "}"),
        buffers=_block("{", map(repr, sorted({*buffers, *source.constants})), "}") if buffers or source.constants else "set()",
        arguments=", ".join(source.arguments),
        lines="\n        ".join(source.lines),
    )


def _block(opening: str, entries: Iterable[str], closing: str) -> str:
    return "\n".join([opening, *(f"    {entry}," for entry in entries), closing])


def _example(x: Tensor, facts: Facts) -> str:
    """How an input is made, for the card: two rows."""
    shape = ", ".join(map(str, (2, *x.shape[1:])))
    if not x.is_floating_point():
        below = max(len(facts.classes), int(x.max()) + 1)
        return f"x = torch.randint({below}, ({shape}))  # numbers of characters"
    dtype = "" if x.dtype == torch.float32 else f", dtype={x.dtype}"
    lines = [f"x = torch.rand({shape}{dtype})  # your data"]
    if facts.mean:
        view = "(-1, 1, 1)" if x.dim() == 4 else "(-1,)"
        moments = ", ".join(f'torch.tensor(config["{name}"]{dtype}).view{view}' for name in ("mean", "std"))
        lines += [f"mean, std = {moments}", "x = (x - mean) / std"]
    return "\n".join(lines)
