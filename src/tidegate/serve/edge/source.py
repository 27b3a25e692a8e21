"""Where updates come from: a folder, or an HTTP server; files are fetched by hash, and go on where they were cut."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tidegate.errors import PlatformError, UserError
from tidegate.serve.edge.bundle import MOST_BYTES, File
from tidegate.train.model_file import sha256_file

BUNDLE = "bundle.json"
WAIT = 10.0
"""Seconds until an answer, or a next part, must have come."""

_CHUNK = 2**16


class Source(Protocol):
    """A place of bundles. Both raise OSError (or http.client.HTTPException) when it cannot be reached."""

    def bundle(self) -> bytes:
        """The text of the newest bundle."""

    def read(self, sha256: str, offset: int) -> Iterator[tuple[int, bytes]]:
        """(offset, part) of a file from `offset` on, or from 0 where the place cannot begin in the middle."""


class FolderSource:
    """A folder, mounted or copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bundle(self) -> bytes:
        """As `Source.bundle`."""
        with (self._folder / BUNDLE).open("rb") as file:
            return file.read(MOST_BYTES + 1)

    def read(self, sha256: str, offset: int) -> Iterator[tuple[int, bytes]]:
        """As `Source.read`."""
        with (self._folder / "files" / sha256).open("rb") as file:
            file.seek(offset)
            while part := file.read(_CHUNK):
                yield offset, part
                offset += len(part)


class HttpSource:
    """The same folder behind any HTTP server; one that knows ``Range`` is asked for the rest only."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def bundle(self) -> bytes:
        """As `Source.bundle`."""
        with self._open(BUNDLE, 0) as answer:
            return answer.read(MOST_BYTES + 1)

    def read(self, sha256: str, offset: int) -> Iterator[tuple[int, bytes]]:
        """As `Source.read`."""
        with self._open(f"files/{sha256}", offset) as answer:
            found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            offset = int(found[1]) if answer.status == 206 and found else 0
            while part := answer.read1(_CHUNK):
                yield offset, part
                offset += len(part)

    def _open(self, path: str, offset: int) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        request = urllib.request.Request(f"{self._url}/{path}", headers=headers)  # noqa: S310 - http or https only
        return urllib.request.urlopen(request, timeout=WAIT)  # type: ignore[no-any-return]  # noqa: S310


def source_of(place: str) -> Source:
    """A folder's path, ``file://``, ``http://`` or ``https://``; UserError on another scheme."""
    scheme = urlsplit(place).scheme
    if scheme in ("http", "https"):
        return HttpSource(place)
    if scheme in ("", "file"):
        return FolderSource(Path(place.removeprefix("file://")))
    raise UserError("--updates", place, "a folder, or an http or https URL")


def fetch(source: Source, wanted: File, incoming: Path) -> Path:
    """The file `wanted`, whole and checked, in `incoming`; what a cut left there is gone on with.

    Raises PlatformError when the bytes are not those that were signed: then they are thrown away.
    """
    whole, part = incoming / wanted.sha256, incoming / f"{wanted.sha256}.part"
    incoming.mkdir(parents=True, exist_ok=True)
    if whole.is_file():
        return whole
    have = part.stat().st_size if part.is_file() else 0
    if have < wanted.bytes:
        _take(source, wanted, part, have)
    if part.stat().st_size < wanted.bytes:
        raise OSError(f"{wanted.sha256[:12]}: cut after {part.stat().st_size} of {wanted.bytes} bytes")
    if part.stat().st_size != wanted.bytes or sha256_file(part) != wanted.sha256:
        part.unlink()
        raise PlatformError(f"file {wanted.sha256[:12]}: not the bytes that were signed")
    part.rename(whole)
    return whole


def _take(source: Source, wanted: File, part: Path, have: int) -> None:
    with part.open("r+b" if have else "w+b") as file, _whole_range(part):
        file.seek(have)
        for offset, data in source.read(wanted.sha256, have):
            if offset + len(data) > wanted.bytes:
                file.truncate(0)
                raise PlatformError(f"file {wanted.sha256[:12]}: larger than what was signed")
            file.seek(offset)
            file.write(data)
            file.flush()
        file.truncate()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _whole_range(part: Path) -> Iterator[None]:
    """A server that refuses the range has another file: begin anew next time."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink()
        raise
