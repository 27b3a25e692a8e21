"""The version step: valid rows get a name by their content and go to the DVC remote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tidegate.ingest.arrivals import Manifest
from tidegate.ingest.sources import MANIFEST, atomic_file, read_manifest
from tidegate.version import dvc
from tidegate.version.digest import Entry, listing, pointer, version_of

INDEX = "dvc-index"


@dataclass(frozen=True)
class VersionRecord:
    """The data version: `added` of its `files` were new to the remote."""

    version: str
    rows: int
    files: int
    added: int


def version(valid: Path, state: Path, out: Path) -> VersionRecord:
    """Push the rows of the folder `valid` to ``state/dvc-remote`` and write the file `out` (``data_version.json``).

    Taken again of the same rows it is the same version and adds nothing. Only partitions that the state has not seen
    are read: the MD5 of the others is looked up by the SHA-256 in the manifest.
    """
    manifest, remote = read_manifest(valid), state / dvc.REMOTE
    entries, added = [], 0
    for sha256, relpath in _files(manifest):
        entry = _entry(valid, relpath, sha256, state / INDEX)
        added += dvc.push(valid / relpath, remote, entry.md5)
        entries.append(entry)
    name = version_of(entries)
    dvc.push_bytes(listing(entries), remote, name)
    document = {"version": name, "rows": manifest.rows, "dvc": pointer(entries, "valid")}
    with atomic_file(out) as made:
        made.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return VersionRecord(name, manifest.rows, len(entries), added)


def _files(manifest: Manifest) -> list[tuple[str, str]]:
    """(SHA-256 or empty, path) of every file that belongs to the version: the partitions and their manifest."""
    parts = [(part.sha256, part.path) for table in manifest.tables.values() for part in table]
    return [*parts, ("", MANIFEST)]


def _entry(valid: Path, relpath: str, sha256: str, index: Path) -> Entry:
    """One file's MD5 and size, from the index where its SHA-256 is known."""
    known = index / sha256[:2] / sha256
    if sha256 and known.exists():
        return Entry(relpath, **json.loads(known.read_text(encoding="utf-8")))
    path = valid / relpath
    entry = Entry(relpath, dvc.md5_of(path), path.stat().st_size)
    if sha256:
        with atomic_file(known) as made:
            made.write_text(json.dumps({"md5": entry.md5, "size": entry.size}), encoding="utf-8")
    return entry
