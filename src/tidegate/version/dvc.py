"""The DVC remote as a folder: ``files/md5/ab/cdef…``, the layout that ``dvc pull`` and ``dvc push`` use. Does I/O.

The layout is written directly: importing DVC takes a second, and an object is a file named by its content. A test
restores a version with the unmodified ``dvc`` command.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tidegate.errors import PlatformError
from tidegate.ingest.sources import atomic_file

REMOTE = "dvc-remote"


def object_path(remote: Path, oid: str) -> Path:
    """Where the object with this MD5 (a folder's ends in ``.dir``) stands in the remote."""
    return remote / "files" / "md5" / oid[:2] / oid[2:]


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes, hex; DVC's content address, not a safeguard."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def push(source: Path, remote: Path, oid: str) -> bool:
    """Copy one file into the remote; False when it is there already. Never a link: the remote owns its bytes."""
    target = object_path(remote, oid)
    if target.exists():
        return False
    with atomic_file(target) as made:
        shutil.copyfile(source, made)
        made.chmod(0o444)
    return True


def push_bytes(content: bytes, remote: Path, oid: str) -> None:
    """Write a small object into the remote, unless it is there."""
    target = object_path(remote, oid)
    if target.exists():
        return
    with atomic_file(target) as made:
        made.write_bytes(content)
        made.chmod(0o444)


def read_object(remote: Path, oid: str) -> bytes:
    """An object's bytes; PlatformError when the remote does not have it."""
    try:
        return object_path(remote, oid).read_bytes()
    except OSError as error:
        raise PlatformError(f"DVC remote {remote}: {oid} is not there ({error.strerror})") from None
