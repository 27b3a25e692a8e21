"""Bundles on an edge's disk: ``FOLDER/var/installed/<sequence>/``, and ``current``, which is switched atomically.

Whatever the moment of a ``kill -9``, `current` names a folder that is whole: folders are written beside their place
and renamed, the link is replaced by a rename, and the one before stays until the next.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tidegate.errors import PlatformError, TidegateError, UserError
from tidegate.serve.edge.answers import Serving, load
from tidegate.serve.edge.bundle import UNLISTED, Bundle, parse_bundle
from tidegate.train.model_file import canonical_json

BUNDLE, TRUSTED = "bundle.json", "trusted.json"
"""`TRUSTED`: the keys in force when the bundle was taken; it is checked against them at each start."""


class Installed:
    """The folders under ``FOLDER/var``; `trust` are the public keys that the first bundle is taken by."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._var = folder, folder / "var"
        self.incoming = self._var / "incoming"
        self._store = self._var / "installed"
        try:
            self._store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlatformError(f"{self._store}: {error.strerror}") from None

    @property
    def database(self) -> Path:
        """Of `tidegate.serve.edge.kept.Kept`."""
        return self._var / "edge.db"

    @property
    def trust(self) -> tuple[str, ...]:
        """Public keys in hex of ``FOLDER/trust.json``."""
        try:
            return tuple(json.loads((self.folder / "trust.json").read_text(encoding="utf-8"))["keys"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.folder}", "no trust.json in it", "a folder of `tidegate serve edge build`"
            ) from None

    def put(self, bundle: Bundle, files: Mapping[str, Path], keys: tuple[str, ...]) -> Path:
        """The bundle's folder, made of `files` by name; `keys` are those that it was taken by. Not switched to yet."""
        target = self._store / f"{bundle.manifest.sequence:010d}"
        made = self._store / f".{target.name}-{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, made / name)
        (made / BUNDLE).write_bytes(bundle.dump())
        (made / TRUSTED).write_text(canonical_json(list(keys)), encoding="utf-8")
        for path in (*made.iterdir(), made):
            _sync(path)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
        _sync(self._store)
        return target

    def switch(self, folder: Path) -> None:
        """Make `folder` the current one; older ones than the one before are removed."""
        before = self._current()
        link = self._var / f".current-{os.getpid()}"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("installed") / folder.name)
        link.rename(self._var / "current")
        _sync(self._var)
        shutil.rmtree(self.incoming, ignore_errors=True)
        for path in self._store.iterdir():
            if path not in (folder, before):
                shutil.rmtree(path, ignore_errors=True)

    def remove(self, folder: Path) -> None:
        """Take away a bundle that failed."""
        shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> Serving | None:
        """The current bundle, or the newest whole one where it is damaged; None where there is none."""
        for folder in self._candidates():
            try:
                return self._loaded(folder)
            except (TidegateError, OSError, ValueError):
                continue
        return None

    def _loaded(self, folder: Path) -> Serving:
        bundle = parse_bundle((folder / BUNDLE).read_bytes())
        if not bundle.signed_by(json.loads((folder / TRUSTED).read_text(encoding="utf-8"))):
            raise PlatformError(f"{folder}: {UNLISTED}")
        return load(folder, bundle)

    def _candidates(self) -> Iterator[Path]:
        current = self._current()
        if current is not None:
            yield current
        whole = (path for path in self._store.iterdir() if path.name.isdecimal())
        yield from (path for path in sorted(whole, reverse=True) if path != current)

    def _current(self) -> Path | None:
        link = self._var / "current"
        return self._store / link.readlink().name if link.is_symlink() else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
