"""Content-addressed outputs of steps on disk, and outputs that appear at once. Does I/O.

An entry is ``STATE/cache/<step>/<key>/`` with the outputs and ``entry.json`` (their digests and the step's result).
What is fetched is checked against these digests; an entry that does not fit is dropped and computed again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from tidegate.errors import UserError
from tidegate.ingest.disk import MANIFEST, read_manifest

Paths = Mapping[str, Path]
_PACKAGE = Path(__file__).parent
_NOT_COMPUTING = {"cli.py", "up.py"}


def content_digest(path: Path) -> str:
    """sha256 hex of a file's bytes, or of a folder's sorted relative paths and their files' bytes."""
    return _digest(path, {})


def known_digest(path: Path) -> str:
    """The same as `content_digest`, without reading the partitions of a folder with a manifest.

    The manifest has their SHA-256. It is written last, so a file that is newer has been touched since, and is read.
    """
    manifest = path / MANIFEST
    if not manifest.is_file():
        return content_digest(path)
    try:
        listed = read_manifest(path)
    except UserError:
        return content_digest(path)
    written = manifest.stat().st_mtime_ns
    parts = (part for table in listed.tables.values() for part in table)
    return _digest(path, {part.path: part.sha256 for part in parts if _older(path / part.path, written)})


def _older(path: Path, time_ns: int) -> bool:
    return path.is_file() and path.stat().st_mtime_ns <= time_ns


def _digest(path: Path, known: Mapping[str, str]) -> str:
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise UserError(str(path), "no file or folder", "the output of an earlier step")
    digest = hashlib.sha256()
    for file_path in sorted(found for found in path.rglob("*") if found.is_file()):
        name = file_path.relative_to(path).as_posix()
        digest.update(f"{name}\0{known.get(name) or _digest(file_path, {})}\n".encode())
    return digest.hexdigest()


def code_digest(
    step: str,
    others: Iterable[str],
    parameters: Mapping[str, str],
    libraries: Iterable[str],
    folders: Iterable[Path] = (),
) -> str:
    """Digest of what computes: packages of the step and of `others`, the modules above them, workload, libraries.

    `folders` hold definitions that are no package, as a Feast repo: their Python and YAML files count.
    """
    files = [path for folder in folders for pattern in ("*.py", "*.yaml") for path in folder.glob(pattern)]
    files += [path for path in _PACKAGE.glob("*.py") if path.name not in _NOT_COMPUTING]
    for package in (step, *others):
        files += (_PACKAGE / package).rglob("*.py")
    files += _workload_files(parameters.get("workload", ""))
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for library in sorted(libraries):
        digest.update(f"{library}=={metadata.version(library)}\n".encode())
    return digest.hexdigest()


def _workload_files(workload: str) -> list[Path]:
    package = workload.partition(":")[0].partition(".")[0]
    found = importlib.util.find_spec(package) if package else None
    if found is None or found.origin is None:
        return []
    origin = Path(found.origin)
    return list(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]


def key(step: str, parameters: Mapping[str, str], inputs: Paths, code: str) -> str:
    """The entry's name: 32 hex digits over step, parameters, input contents and code."""
    contents = {name: known_digest(path) for name, path in inputs.items()}
    text = json.dumps([step, dict(parameters), contents, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def fresh(outputs: Paths) -> Iterator[dict[str, Path]]:
    """Paths beside `outputs` to write to; each takes its place when the block ends well, else all are removed."""
    made = {}
    for name, path in outputs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        made[name] = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent)) / path.name
    try:
        yield made
        for name, path in outputs.items():
            _replace(made[name], path)
    finally:
        for path in made.values():
            shutil.rmtree(path.parent, ignore_errors=True)


def _replace(made: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(made.parent / "old")
    elif made.is_dir() and path.exists():
        path.unlink()
    made.replace(path)


def store(entry: Path, outputs: Paths, result: Mapping[str, Any]) -> None:
    """Keep outputs as the entry; where another process was first, its entry stays."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".entry-", dir=entry.parent))
    try:
        for name, path in outputs.items():
            link_tree(path, made / name)
        digests = {name: known_digest(path) for name, path in outputs.items()}
        (made / "entry.json").write_text(json.dumps({"outputs": digests, "result": result}), encoding="utf-8")
        made.rename(entry)
    except FileExistsError:
        return
    except OSError:
        if not entry.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def fetch(entry: Path, outputs: Paths) -> dict[str, Any] | None:
    """The entry's result with its outputs put in place; None when there is no entry or it does not fit its digests."""
    try:
        kept = json.loads((entry / "entry.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if any(kept["outputs"].get(name) != _digest_or_none(entry / name) for name in outputs):
        shutil.rmtree(entry, ignore_errors=True)
        return None
    with fresh(outputs) as made:
        for name, path in made.items():
            link_tree(entry / name, path)
    return dict(kept["result"])


def _digest_or_none(path: Path) -> str | None:
    try:
        return content_digest(path)
    except (OSError, UserError):
        return None


def link_tree(source: Path, target: Path) -> None:
    """A file or folder again at `target`, by hard links where the file system allows, else by copies."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        _link(str(source), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
