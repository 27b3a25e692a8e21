"""The DVC remote: ``files/md5/ab/cdef…`` in a folder or at a URL, the layout of ``dvc pull`` and ``push``. Does I/O.

The layout is written directly: importing DVC takes a second, and an object is a file named by its content. Tests
restore versions with the unmodified ``dvc`` command.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.disk import atomic_file

REMOTE = "dvc-remote"
VARIABLE = "TIDEGATE_DVC_REMOTE"
"""Names the remote where it is not the state's own folder: a path, or a URL that fsspec knows (``s3://bucket/data``).

An address and credentials are the library's own variables, as AWS_ENDPOINT_URL, so that none is kept in a file.
"""


@dataclass(frozen=True)
class Remote:
    """A place for objects: `url` as people write it, `files` the fsspec file system, `root` the path in it."""

    url: str
    files: Any
    root: str

    def path(self, oid: str) -> str:
        """Where the object with this MD5 (a folder's ends in ``.dir``) stands."""
        return f"{self.root}/files/md5/{oid[:2]}/{oid[2:]}"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return "file" in self.files.protocol


def remote_of(state: Path) -> Remote:
    """The remote of a state folder: what `VARIABLE` names, else ``STATE/dvc-remote``."""
    return open_remote(os.environ.get(VARIABLE) or str(state / REMOTE))


def open_remote(url: str) -> Remote:
    """The remote at a path or URL; UserError when fsspec does not know such a URL."""
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(VARIABLE, url, f"a folder or a URL that fsspec knows ({error})") from None
    return Remote(url, files, str(root).rstrip("/"))


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes, hex; DVC's content address, not a safeguard."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def has(remote: Remote, oid: str) -> bool:
    """Whether the remote holds an object; PlatformError when it does not answer."""
    try:
        return bool(remote.files.exists(remote.path(oid)))
    except Exception as error:
        raise _silent(remote, error) from error


def push(source: Path, remote: Remote, oid: str) -> bool:
    """Copy one file into the remote; False when it is there already. Never a link: the remote owns its bytes.

    An object is there whole or not at all.
    """
    if has(remote, oid):
        return False
    if remote.is_folder:
        with atomic_file(Path(remote.path(oid))) as made:
            shutil.copyfile(source, made)
            made.chmod(0o444)
        return True
    try:
        remote.files.put_file(str(source), remote.path(oid))
    except Exception as error:
        raise _silent(remote, error) from error
    return True


def push_bytes(content: bytes, remote: Remote, oid: str) -> None:
    """Write a small object into the remote, unless it is there."""
    if has(remote, oid):
        return
    if remote.is_folder:
        with atomic_file(Path(remote.path(oid))) as made:
            made.write_bytes(content)
            made.chmod(0o444)
        return
    try:
        remote.files.pipe_file(remote.path(oid), content)
    except Exception as error:
        raise _silent(remote, error) from error


def read_object(remote: Remote, oid: str) -> bytes:
    """An object's bytes; PlatformError when the remote does not have it or does not answer."""
    try:
        return bytes(remote.files.cat_file(remote.path(oid)))
    except FileNotFoundError:
        raise PlatformError(f"DVC remote {remote.url}: {oid} is not there") from None
    except Exception as error:
        raise _silent(remote, error) from error


def _silent(remote: Remote, error: Exception) -> PlatformError:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return PlatformError(f"DVC remote {remote.url} does not answer: {said}")
