"""Parquet: images and tables round trip; wrong columns, types and entries are refused by name."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from parsinet.data import load
from parsinet.data.parquet import images_and_labels, read_parquet, read_table
from parsinet.errors import DataError, MissingExtraError


def png(level: int, size: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, columns: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


HEADER = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["no", "yes", "never used"], "_type": "ClassLabel"}}}})}


def test_images_round_trip(tmp_path: Path) -> None:
    levels = list(range(0, 200, 10))
    path = write(tmp_path / "a.parquet", {"image": [{"bytes": png(level), "path": "x"} for level in levels], "label": [0, 1] * 10}, HEADER)
    images, labels, classes = images_and_labels(path, read_table(path))
    assert images[:, 0, 0, 0].tolist() == levels
    assert images.shape == (20, 1, 4, 4)
    assert labels.tolist() == [0, 1] * 10
    assert classes == ("no", "yes", "never used")
    data = load(str(path))
    assert (data.name, len(data.train), len(data.test)) == ("a", 16, 4)


def test_images_as_plain_bytes_with_names_as_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"img": [png(level) for level in range(10)], "label": ["dog", "cat"] * 5})
    _, labels, classes = images_and_labels(path, read_table(path))
    assert classes == ("cat", "dog")
    assert labels.tolist() == [1, 0] * 5


def test_table_round_trip(tmp_path: Path) -> None:
    columns = {"a": [float(x) for x in range(10)], "b": list(range(10, 20)), "target": [0, 1] * 5, "__index_level_0__": list(range(10))}
    raw = read_parquet(write(tmp_path / "t.parquet", columns), seed=3)
    inputs = torch.cat([raw.train[0], raw.test[0]])
    assert inputs.shape == (10, 2), "pandas' index is no feature"
    assert sorted(inputs.tolist()) == [[float(x), float(x + 10)] for x in range(10)]
    labels = torch.cat([raw.train[1], raw.test[1]])
    assert torch.equal(labels, (inputs[:, 0] % 2).long())


def test_categories_as_labels(tmp_path: Path) -> None:
    label = pa.array(["x", "y"] * 5).dictionary_encode()
    raw = read_parquet(write(tmp_path / "t.parquet", {"a": list(range(10)), "label": label}), seed=0)
    assert raw.classes == ("x", "y")


def test_what_pandas_wrote_as_an_index_is_no_feature(tmp_path: Path) -> None:
    columns = {"a": list(range(10)), "id": list(range(10)), "label": [0, 1] * 5}
    path = write(tmp_path / "t.parquet", columns, {"pandas": '{"index_columns": ["id"]}'})
    assert read_parquet(path, seed=0).train[0].shape[1] == 1


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.table([list(range(10)), list(range(10)), [0, 1] * 5], names=["a", "a", "label"])
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="several columns are named a"):
        read_parquet(tmp_path / "t.parquet", seed=0)


ROWS = list(range(10))
BAD_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "no label": ({"a": ROWS}, "exactly one column named label or target; its columns are a"),
    "two labels": ({"a": ROWS, "label": ROWS, "target": ROWS}, "exactly one column named label or target"),
    "only a label": ({"label": [0, 1] * 5}, "no column besides label"),
    "words": ({"a": ["x"] * 10, "label": [0, 1] * 5}, "column a must hold numbers, got string"),
    "NaN": ({"a": [1.0, float("nan")] * 5, "label": [0, 1] * 5}, "column a holds NaN or infinity, first in row 1"),
    "infinity": ({"a": [float("inf")] * 10, "label": [0, 1] * 5}, "column a holds NaN or infinity, first in row 0"),
    "null": ({"a": [1.0, None] * 5, "label": [0, 1] * 5}, "column a has 5 empty entries"),
    "null label": ({"a": ROWS, "label": [0, None] * 5}, "column label has 5 empty entries"),
    "real label": ({"a": ROWS, "label": [0.5, 1.0] * 5}, "column label must hold class numbers .* got float64"),
    "gap": ({"a": ROWS, "label": [0, 2] * 5}, "class 1 has no training example"),
    "negative": ({"a": ROWS, "label": [0, -1] * 5}, "got class -1"),
    "one class": ({"a": ROWS, "label": ["x"] * 10}, "at least two classes, got only x"),
    "no rows": ({"a": [], "label": []}, "holds no rows"),
    "too few": ({"a": [1, 2], "label": [0, 1]}, "2 examples are too few"),
    "no image": ({"image": [{"bytes": None, "path": "x.png"}] * 2, "label": [0, 1]}, "column image, row 0: expected an encoded image"),
    "bad image": ({"image": [png(1), png(2)[:40]], "label": [0, 1]}, "column image, row 1: damaged"),
    "two sizes": ({"image": [png(1), png(2, size=5)], "label": [0, 1]}, "row 1: 5×5 pixels, but .*row 0 has 4×4"),
    "image, no label": ({"image": [png(1), png(2)]}, "exactly one column named label or target"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(tmp_path: Path, case: str) -> None:
    columns, message = BAD_TABLES[case]
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert str(path) in str(caught.value)


def test_label_beyond_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"image": [png(1), png(2)], "label": [0, 3]}, HEADER)
    with pytest.raises(DataError, match=r"class numbers 0 … 2, as its header names 3 classes"):
        load(str(path))


def test_damaged_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"a": ROWS, "label": ROWS})
    for content in (b"", b"no parquet at all", path.read_bytes()[:-20]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"t\.parquet: cannot be read as Parquet"):
            load(str(path))


@pytest.mark.parametrize(("module", "message"), [("pyarrow", "Parquet needs pyarrow"), ("PIL", "images needs Pillow")])
def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str) -> None:
    path = write(tmp_path / "t.parquet", {"image": [png(1), png(2)], "label": [0, 1]})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=message + r": pip install 'parsinet\[parquet\]'"):
        load(str(path))
