"""The data versions that a state folder knows: ``STATE/versions/<version>.json``, one a version. Does I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import UserError
from tidegate.ingest.arrivals import Manifest, parse_manifest
from tidegate.ingest.disk import atomic_file

FOLDER = "versions"


@dataclass(frozen=True)
class KnownVersion:
    """A data version: when it was first made (ISO, UTC), its rows and files, its remote, its pointer and manifest."""

    version: str
    time: str
    rows: int
    files: int
    remote: str
    dvc: str
    manifest: str

    def contents(self) -> Manifest:
        """Its tables and partitions, as they were when the version was made."""
        return parse_manifest(self.manifest, self.version)

    def summary(self) -> dict[str, Any]:
        """What `tidegate version list` shows."""
        return {key: value for key, value in asdict(self).items() if key not in ("dvc", "manifest")}


def remember(state: Path, known: KnownVersion) -> None:
    """Keep a version; one that is known keeps its time and gets the remote that has it now."""
    path = state / FOLDER / f"{known.version}.json"
    before = _read(path) if path.is_file() else None
    if before is not None and before.remote == known.remote:
        return
    kept = known if before is None else KnownVersion(**{**asdict(known), "time": before.time})
    with atomic_file(path) as made:
        made.write_text(json.dumps(asdict(kept), indent=1) + "\n", encoding="utf-8")


def versions(state: Path) -> list[KnownVersion]:
    """Every version that the state knows, oldest first."""
    found = [_read(path) for path in (state / FOLDER).glob("*.json")]
    return sorted(found, key=lambda known: (known.time, known.version))


def newest(state: Path) -> KnownVersion | None:
    """The version that was made last, without reading the others."""
    found = max((state / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return _read(found) if found else None


def find(state: Path, text: str) -> KnownVersion:
    """The one version whose name begins with `text`; UserError when there is none or more than one."""
    every = versions(state)
    found = [known for known in every if text and known.version.startswith(text)]
    if len(found) == 1:
        return found[0]
    takes = f"the beginning of one of the {len(every)} versions that `tidegate version list` shows"
    raise UserError("data version", text, f"{takes}; {len(found)} begin so")


def _read(path: Path) -> KnownVersion:
    try:
        return KnownVersion(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(str(path), str(error)[:80], "the record of a data version") from None
