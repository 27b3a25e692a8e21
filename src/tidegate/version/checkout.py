"""A data version as files again, and its ``.dvc`` file in a git checkout. Does I/O."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.disk import MANIFEST, atomic_file, atomic_folder
from tidegate.version import dvc
from tidegate.version.digest import Entry, parse_listing, pointer
from tidegate.version.history import KnownVersion


@dataclass(frozen=True)
class CheckedOut:
    """What was restored: the version, the folder, its partitions and rows; the ``.dvc`` file that was committed."""

    version: str
    out: str
    files: int
    rows: int
    committed: str = ""


def checkout(known: KnownVersion, out: Path, commit: bool = False) -> CheckedOut:
    """Restore a version from its remote into the folder `out`, with the manifest that later steps read.

    Every file is checked against its MD5. `out` must be new, empty, or such a folder already: it is replaced. With
    `commit`, ``<out>.dvc`` is written beside it and committed, that file alone. Raises UserError when `out` holds
    something else or is in no git checkout, PlatformError when the remote does not have the version.
    """
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise UserError(f"--out {out}", "something else in it", "a folder that is new, empty or an earlier checkout")
    if commit:
        _in_git(out)
    remote = dvc.open_remote(known.remote)
    entries = []
    with atomic_folder(out) as folder:
        for relpath, md5 in parse_listing(dvc.read_object(remote, known.version), known.version).items():
            entries.append(_restore(remote, md5, folder, relpath))
        (folder / MANIFEST).write_text(known.manifest, encoding="utf-8")
    committed = _commit(known.version, entries, out) if commit else ""
    return CheckedOut(known.version, str(out), len(entries), known.rows, committed)


def _restore(remote: dvc.Remote, md5: str, folder: Path, relpath: str) -> Entry:
    content = dvc.read_object(remote, md5)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise PlatformError(f"DVC remote {remote.url}: {md5} holds other bytes than its name says")
    path = folder / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Entry(relpath, md5, len(content))


def _commit(version: str, entries: list[Entry], out: Path) -> str:
    """Write the pointer beside the folder and commit it; nothing is committed when it says so already."""
    path = out.parent / f"{out.name}.dvc"
    with atomic_file(path) as made:
        made.write_text(pointer(entries, out.name), encoding="utf-8")
    _git(path.parent, "add", "--", path.name)
    if _git(path.parent, "status", "--porcelain", "--", path.name):
        _git(path.parent, "commit", "--quiet", "-m", f"Data version {version}", "--", path.name)
    return str(path)


def _in_git(out: Path) -> None:
    existing = next(folder for folder in out.absolute().parents if folder.is_dir())
    _git(existing, "rev-parse", "--show-toplevel")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError("--commit", f"git: {error.strerror}", "a machine with git") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:160]
        raise UserError("--commit", said, f"a git checkout at {folder} that can commit")
    return done.stdout.strip()
