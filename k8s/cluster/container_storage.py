"""Images out of buildah's store as an OCI layout, without compression and only layers that the layout lacks.

`buildah push` compresses every layer at every push; here a changed line of code costs the layer of the code.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from k8s.cluster import oci
from tidegate.errors import PlatformError


def export(store: Path, name: str, layout: Path) -> str:
    """Write the store's image into the layout; the manifest's digest.

    `store` is buildah's `--root` with the overlay driver: `overlay-images`, `overlay-layers`, `overlay`.
    """
    image = next(one for one in _records(store, "images") if name in one.get("names", ()))
    config = _config(store, image["id"])
    layers = _chain(store, image["layer"])
    (layout / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    described = [oci.layer(layer["diff-digest"], layer["diff-size"]) for layer in layers]
    for layer in layers:
        path = oci.blob_path(layout, layer["diff-digest"])
        if not path.exists():
            _write(store, layer, path)
    return oci.write_image(layout, config, described)


def _records(store: Path, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((store / f"overlay-{kind}" / f"{kind}.json").read_text())
    return found


def _config(store: Path, image: str) -> bytes:
    key = base64.b64encode(f"sha256:{image}".encode()).decode()
    return (store / "overlay-images" / image / f"={key}").read_bytes()


def _chain(store: Path, top: str) -> list[dict[str, Any]]:
    """The image's layers, the lowest first."""
    layers = {layer["id"]: layer for layer in _records(store, "layers")}
    chain: list[dict[str, Any]] = []
    at: str | None = top
    while at:
        chain.insert(0, layers[at])
        at = layers[at].get("parent")
    return chain


def _write(store: Path, layer: dict[str, Any], path: Path) -> None:
    """The layer's tar, put together again from its headers (tar-split) and its files."""
    beside = path.with_name(f".{path.name}")
    with beside.open("w+b") as tar:
        _assemble(store, layer["id"], tar)
        tar.seek(0)
        digest = f"sha256:{hashlib.file_digest(tar, 'sha256').hexdigest()}"
    if digest != layer["diff-digest"]:
        beside.unlink()
        raise PlatformError(f"layer {layer['id']}: its files give {digest}, its record says {layer['diff-digest']}")
    beside.replace(path)


def _assemble(store: Path, layer: str, tar: BinaryIO) -> None:
    files = store / "overlay" / layer / "diff"
    with gzip.open(store / "overlay-layers" / f"{layer}.tar-split.gz", "rt") as entries:
        for line in entries:
            entry = json.loads(line)
            if entry["type"] == 2:
                tar.write(base64.b64decode(entry["payload"]))
            elif entry.get("size"):
                name = entry.get("name") or base64.b64decode(entry["name_raw"]).decode(errors="surrogateescape")
                with (files / name.lstrip("/")).open("rb") as file:
                    shutil.copyfileobj(file, tar, 1 << 20)
