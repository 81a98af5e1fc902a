"""How a save's two files vouch for themselves and for each other: a record with a checksum of its own, weights that carry it too."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from parsinet.errors import StorageError
from parsinet.files import digest, digest_of

SEAL = "sha256"
RECORD, TENSORS = "structure", "tensors"
"""Entries of the metadata in the weights' file: the record as JSON, and the checksum of the tensors without metadata."""


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its checksum."""
    return {**record, SEAL: digest_of(record)}


def check_seal(record: dict[str, Any], where: object) -> None:
    """StorageError unless the record is the one that was written; those of parsinet's first weeks have no checksum."""
    if SEAL in record and record[SEAL] != digest_of({key: value for key, value in record.items() if key != SEAL}):
        raise StorageError(f"{where} does not match its own checksum. The file is damaged or was edited; restore it from a copy.")


def weights_file(tensors: dict[str, Tensor], record: dict[str, Any]) -> bytes:
    """The content of the weights' file. It carries the record, so that it can be read beside an older one's structure.

    The metadata is put into the header here, because safetensors writes it in an order that differs from call to call.
    """
    plain = tensors_to_bytes(tensors)
    told = {"format": "pt", RECORD: json.dumps(sealed(record), sort_keys=True), TENSORS: digest(plain)}
    header = json.dumps({"__metadata__": told, **json.loads(plain[8 : _data(plain)])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(plain)[_data(plain) :]))


def carried_record(content: bytes) -> dict[str, Any] | None:
    """The record in a weights' file that is whole; None in one that is not, or carries none."""
    try:
        told = json.loads(content[8 : _data(content)])["__metadata__"]
        record = json.loads(told[RECORD])
        check_seal(record, RECORD)
        whole = told[TENSORS] == digest(tensors_to_bytes(read_tensors(content)))
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError, StorageError):
        return None
    return record if whole else None


def _data(content: bytes) -> int:
    """Where a safetensors file's data begins: behind eight bytes of length, and the header."""
    return 8 + int.from_bytes(content[:8], "little")
