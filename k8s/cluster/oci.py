"""Write one-layer images in the OCI layout from a folder: same files, same bytes, same digest."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def architecture() -> str:
    """That of this machine, as images name it."""
    return _MACHINES.get(platform.machine(), platform.machine())


def write(layout: Path, tree: Path, config: Mapping[str, Any]) -> str:
    """Write the layout with `tree` as its only layer; the manifest's digest.

    `config` is the image's own (Env, Entrypoint, User, …). Everything belongs to root and was made in 1970.
    """
    beside = layout.with_name(f".{layout.name}")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / "blobs" / "sha256").mkdir(parents=True)
    described = _layer(beside, tree)
    image = {
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [described["digest"]]},
    }
    digest = write_image(beside, _canonical(image), [described])
    shutil.rmtree(layout, ignore_errors=True)
    beside.replace(layout)
    return digest


def write_image(layout: Path, config: bytes, layers: Sequence[Mapping[str, Any]]) -> str:
    """Make the layout be the image of this configuration and these layers, which it has; the manifest's digest.

    Blobs of another image go.
    """
    described = _blob(layout, _CONFIG, config)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": list(layers)}
    described = _blob(layout, _MANIFEST, _canonical(manifest))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    beside = layout / ".index.json"
    beside.write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    beside.replace(layout / "index.json")
    kept = {blob_path(layout, digest).name for digest in blobs_of(layout)}
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob.name not in kept:
            blob.unlink()
    return str(described["digest"])


def layer(digest: str, size: int) -> dict[str, Any]:
    """The descriptor of an uncompressed layer."""
    return {"mediaType": _LAYER, "digest": digest, "size": size}


def manifest_of(layout: Path) -> dict[str, Any]:
    """The descriptor of the layout's only manifest: mediaType, digest, size."""
    described = json.loads((layout / "index.json").read_text())["manifests"]
    return {key: described[-1][key] for key in ("mediaType", "digest", "size")}


def blobs_of(layout: Path) -> list[str]:
    """Digests of the manifest, the configuration and the layers, the manifest first."""
    digest = manifest_of(layout)["digest"]
    manifest = json.loads(blob_path(layout, digest).read_text())
    return [digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def blob_path(layout: Path, digest: str) -> Path:
    """Where a blob of the layout is."""
    return layout / "blobs" / Path(*digest.split(":"))


def archive(layout: Path, name: str, path: Path, skip: frozenset[str]) -> None:
    """Write what `ctr images import` takes: the image under its full name, without the blobs of `skip`."""
    described = {**manifest_of(layout), "annotations": {"io.containerd.image.name": name}}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", (layout / "oci-layout").read_bytes())
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [described]}).encode())
        for digest in blobs_of(layout):
            if digest not in skip:
                tar.add(blob_path(layout, digest), f"blobs/sha256/{digest.partition(':')[2]}")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _blob(layout: Path, kind: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def _layer(layout: Path, tree: Path) -> dict[str, Any]:
    path = layout / "layer.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for file in _sorted(tree):
            tar.inodes.clear()  # type: ignore[attr-defined]  # a file with two names is two files here
            tar.add(file, str(file.relative_to(tree)), recursive=False, filter=_plain)
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    size = path.stat().st_size
    path.replace(layout / "blobs" / "sha256" / digest)
    return layer(f"sha256:{digest}", size)


def _sorted(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in sorted([*folders, *files]):
            yield Path(folder) / name


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    if entry.name == "tmp":
        entry.mode = 0o1777
    return entry
