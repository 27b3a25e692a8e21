"""A data version as DVC writes it: the listing of a folder and the pointer file to it. Pure.

A version is the MD5 of the listing, with ``.dir`` appended: DVC's own name for a folder's content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One file of the folder: its path in it, the MD5 of its bytes (hex) and its size."""

    relpath: str
    md5: str
    size: int


def listing(entries: Sequence[Entry]) -> bytes:
    """The content of the ``.dir`` object: JSON with sorted keys, sorted by path, as DVC writes it."""
    files = [{"md5": entry.md5, "relpath": entry.relpath} for entry in sorted(entries, key=lambda e: e.relpath)]
    return json.dumps(files, sort_keys=True).encode()


def parse_listing(content: bytes, where: str) -> dict[str, str]:
    """The MD5 by path of a ``.dir`` object; UserError when it is none, or a path would leave the folder."""
    try:
        files = {str(file["relpath"]): str(file["md5"]) for file in json.loads(content)}
    except (ValueError, KeyError, TypeError):
        raise UserError(where, content[:40], "a DVC listing of a folder") from None
    for relpath in files:
        if relpath.startswith("/") or ".." in relpath.split("/"):
            raise UserError(where, relpath, "a DVC listing of a folder, whose paths stay in it")
    return files


def version_of(entries: Sequence[Entry]) -> str:
    """``<md5>.dir``."""
    return hashlib.md5(listing(entries), usedforsecurity=False).hexdigest() + ".dir"


def pointer(entries: Sequence[Entry], path: str) -> str:
    """The text of the ``.dvc`` file with which DVC restores the folder at `path`."""
    return (
        f"outs:\n- md5: {version_of(entries)}\n  size: {sum(entry.size for entry in entries)}\n"
        f"  nfiles: {len(entries)}\n  hash: md5\n  path: {path}\n"
    )
