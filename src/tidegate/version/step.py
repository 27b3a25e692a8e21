"""The version step: valid rows get a name by their content and go to the DVC remote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tidegate.ingest.arrivals import Partition, format_time
from tidegate.ingest.disk import atomic_file, read_manifest
from tidegate.version import dvc
from tidegate.version.digest import Entry, listing, parse_listing, pointer, version_of
from tidegate.version.history import KnownVersion, newest, remember


@dataclass(frozen=True)
class VersionRecord:
    """The data version: `added` of its `files` were new to the remote."""

    version: str
    rows: int
    files: int
    added: int


def version(valid: Path, state: Path, out: Path) -> VersionRecord:
    """Push the partitions of the folder `valid` to the remote and write the file `out` (``data_version.json``).

    The name depends on the partitions alone: the same rows are the same version, whatever source they came from and
    whenever. Only partitions that the newest version does not have are read and pushed.
    """
    manifest, remote = read_manifest(valid), dvc.remote_of(state)
    parts = [part for table in manifest.tables.values() for part in table]
    there = _pushed(state, remote)
    entries = [_entry(valid, part, there) for part in parts]
    new = [entry for part, entry in zip(parts, entries, strict=True) if part.sha256 not in there]
    added = sum(dvc.push(valid / entry.relpath, remote, entry.md5) for entry in new)
    name = version_of(entries)
    dvc.push_bytes(listing(entries), remote, name)
    text, now = pointer(entries, "valid"), format_time(datetime.now(UTC))
    remember(state, KnownVersion(name, now, manifest.rows, len(entries), remote.url, text, manifest.dump()))
    with atomic_file(out) as made:
        made.write_text(json.dumps({"version": name, "rows": manifest.rows, "dvc": text}, indent=1) + "\n", "utf-8")
    return VersionRecord(name, manifest.rows, len(entries), added)


def _pushed(state: Path, remote: dvc.Remote) -> Mapping[str, str]:
    """The MD5 by SHA-256 of the newest version's partitions; none when this remote does not have that version.

    A version's listing is pushed last, so where it is, everything that it lists is.
    """
    known = newest(state)
    if known is None or known.remote != remote.url or not dvc.has(remote, known.version):
        return {}
    listed = parse_listing(dvc.read_object(remote, known.version), known.version)
    return {part.sha256: listed[part.path] for table in known.contents().tables.values() for part in table}


def _entry(valid: Path, part: Partition, there: Mapping[str, str]) -> Entry:
    path = valid / part.path
    return Entry(part.path, there.get(part.sha256) or dvc.md5_of(path), path.stat().st_size)
