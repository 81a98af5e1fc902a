"""Arrays of numbers with a class for each row: checks shared by every table, and the .npz reader."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parsinet.data.splitting import stratified
from parsinet.data.standardise import Raw
from parsinet.errors import DataError

TEST_FRACTION = 0.2
CHANNELS = (1, 3, 4)
Array = np.ndarray[Any, np.dtype[Any]]


def read_npz(path: Path, seed: int) -> Raw:
    """An .npz file with x_train, y_train, x_test, y_test, or with x and y (then 20 % of every class, drawn with `seed`, is the test part).

    x: numbers [n, columns], [n, h, w], [n, c, h, w] or [n, h, w, c]; a last dimension of 1, 3 or 4 where the second is none of these
    is taken for channels. uint8 images are divided by 255. y: class numbers 0, 1, … or class names, [n].
    Raises DataError: not an .npz, keys missing, Python objects inside, NaN or infinity, wrong types or shapes, a class without examples.
    """
    arrays = _read_arrays(path)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        inputs = [to_inputs(arrays[key], f"{path}: {key}") for key in ("x_train", "x_test")]
        for side, tensor in zip(("train", "test"), inputs, strict=True):
            check_labels(arrays[f"y_{side}"], len(tensor), f"{path}: y_{side}")
        if inputs[0].shape[1:] != inputs[1].shape[1:] or inputs[0].dtype != inputs[1].dtype:
            raise DataError(f"{path}: x_train and x_test must be alike, got {_describe(inputs[0])} and {_describe(inputs[1])}.")
        count = len(inputs[0])
        labels, classes = encode(np.concatenate([arrays["y_train"], arrays["y_test"]]), f"{path}: y", trained=count)
        return Raw(path.stem, classes, (inputs[0], labels[:count]), (inputs[1], labels[count:]))
    if {"x", "y"} <= arrays.keys():
        whole = to_inputs(arrays["x"], f"{path}: x")
        check_labels(arrays["y"], len(whole), f"{path}: y")
        return split_off_test(path, whole, *encode(arrays["y"], f"{path}: y"), seed)
    raise DataError(f"{path}: needs the arrays x_train, y_train, x_test, y_test, or x and y; got {', '.join(sorted(arrays)) or 'none'}.")


def split_off_test(path: Path, inputs: Tensor, labels: Tensor, classes: tuple[str, ...], seed: int) -> Raw:
    """The data set with 20 % of every class, drawn with `seed`, as test part; DataError where that leaves no test example."""
    kept, held = stratified(labels, TEST_FRACTION, seed)
    if len(held) == 0:
        raise DataError(f"{path}: {len(labels)} examples are too few to hold {TEST_FRACTION:.0%} of every class out for the test.")
    return Raw(path.stem, classes, (inputs[kept], labels[kept]), (inputs[held], labels[held]))


def to_inputs(values: Array, where: str) -> Tensor:
    """uint8 images stay uint8, all else becomes float64; [n, columns] or [n, c, h, w]."""
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where} must hold integers or real numbers, got {values.dtype}.")
    if values.ndim not in (2, 3, 4):
        raise DataError(f"{where} must have shape [n, columns], [n, h, w] or [n, c, h, w], got {list(values.shape)}.")
    if values.size == 0:
        raise DataError(f"{where} is empty: its shape is {list(values.shape)}.")
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[3] in CHANNELS and values.shape[1] not in CHANNELS:
        values = np.moveaxis(values, 3, 1)
    if values.dtype == np.uint8 and values.ndim == 4:
        return torch.from_numpy(np.array(values, order="C"))
    if not np.isfinite(values).all():
        place = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(f"{where} holds NaN or infinity, first at {place}; remove or fill such entries.")
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))


def check_labels(labels: Array, count: int, where: str) -> None:
    """DataError unless there is one class number or class name for each of `count` examples."""
    if labels.dtype.kind not in "iubU":
        real = " Convert class numbers to integers; regression is for a training loop of your own, around a Pruner."
        way_out = real if labels.dtype.kind == "f" else ""
        raise DataError(f"{where} must hold class numbers (integers) or class names, got {labels.dtype}.{way_out}")
    if labels.shape != (count,):
        raise DataError(f"{where} must have one class for each of {count} examples, shape [{count}], got {list(labels.shape)}.")


def encode(labels: Array, where: str, trained: int | None = None) -> tuple[Tensor, tuple[str, ...]]:
    """Class numbers int64 [n] and class names: names are sorted, numbers must be 0 … k−1; k ≥ 2.

    trained: only the first so many examples are trained on (all where None); each class must occur among them, else DataError.
    """
    if labels.dtype.kind == "U":
        found, numbers = np.unique(labels, return_inverse=True)
        classes = tuple(str(name) for name in found)
    else:
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest < 0 or largest >= len(labels):
            wrong = smallest if smallest < 0 else largest
            raise DataError(f"{where} must hold class numbers 0, 1, …, each with examples; got class {wrong}.")
        numbers, classes = labels.astype(np.int64), tuple(str(number) for number in range(largest + 1))
    absent = np.flatnonzero(np.bincount(numbers[:trained], minlength=len(classes)) == 0)
    if len(absent):
        raise DataError(f"{where}: class {classes[absent[0]]} has no training example; classes are 0, 1, … or names, without gaps.")
    if len(classes) < 2:
        raise DataError(f"{where}: needs at least two classes, got only {classes[0]}.")
    return torch.from_numpy(numbers.astype(np.int64)), classes


def _read_arrays(path: Path) -> dict[str, Array]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: damaged, unreadable or not an .npz file; save it with numpy.savez(path, x=…, y=…).")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds Python objects, which are never unpickled" if "Object arrays" in str(error) else f"damaged ({error})"
        raise DataError(f"{path}: cannot be read: {reason}.") from error


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape[1:])}"
