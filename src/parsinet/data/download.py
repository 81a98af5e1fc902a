"""Fetching a file from one of several mirrors and keeping it only if its checksum is right."""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from parsinet.errors import DataError
from parsinet.files import make_folder, write_bytes

TIMEOUT = 30.0


def fetch(file: str, mirrors: Sequence[str], checksum: str, folder: Path) -> Path:
    """Download `file` into `folder` from the first mirror (a URL that ends in /) that delivers the right content.

    checksum: "sha256:…" of the decompressed content, or "md5:…" of the gzip archive as it is published.
    Raises DataError, with what every mirror did, where none delivers; StorageError where the folder cannot be written.
    """
    reasons = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + file, timeout=TIMEOUT) as response:
                content: bytes = response.read()
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{mirror} ({error})")
            continue
        if not matches(content, checksum):
            reasons.append(f"{mirror} (wrong checksum)")
            continue
        make_folder(folder)
        write_bytes(folder / file, content)
        return folder / file
    raise DataError(f"Cannot download {file}: tried {', '.join(reasons)}. Check the network, or put the file into {folder} yourself.")


def matches(archive: bytes, checksum: str) -> bool:
    """Whether the archive has the checksum; see `fetch`."""
    kind, _, expected = checksum.partition(":")
    if kind == "md5":
        return hashlib.md5(archive, usedforsecurity=False).hexdigest() == expected
    try:
        return hashlib.sha256(gzip.decompress(archive)).hexdigest() == expected
    except (OSError, EOFError, zlib.error):
        return False
