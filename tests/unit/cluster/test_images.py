"""Images are written the same way each time, and read out of buildah's store as they were built."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from k8s.cluster import buildah, container_storage, oci
from tidegate.errors import PlatformError


def tree(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "link").symlink_to(names[0])
    return folder


def test_the_same_files_are_the_same_image_whenever_and_in_whatever_order_they_were_made(tmp_path: Path):
    names = ["b/two", "a", "b/one"]
    one, other = tree(tmp_path / "one", names), tree(tmp_path / "other", names[::-1])
    (other / "link").unlink()
    (other / "link").symlink_to(names[0])
    os.utime(other / "a", (7, 7))
    (other / "b/one").chmod(0o664)
    digests = [oci.write(tmp_path / f"{place.name}.oci", place, {"User": "65534"}) for place in (one, other)]
    assert digests[0] == digests[1]


def test_a_file_that_differs_makes_another_image(tmp_path: Path):
    place = tree(tmp_path / "tree", ["a"])
    before = oci.write(tmp_path / "oci", place, {})
    (place / "a").write_text("other")
    assert oci.write(tmp_path / "oci", place, {}) != before
    assert len(list((tmp_path / "oci/blobs/sha256").iterdir())) == 3, "the old blobs are gone"


def test_files_with_two_names_are_two_files_and_everything_belongs_to_root(tmp_path: Path):
    place = tree(tmp_path / "tree", ["a"])
    os.link(place / "a", place / "z")
    oci.write(tmp_path / "oci", place, {})
    with tarfile.open(oci.blob_path(tmp_path / "oci", oci.blobs_of(tmp_path / "oci")[2])) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["z"].isreg()
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 0)}


def test_an_archive_leaves_out_the_blobs_that_the_node_has(tmp_path: Path):
    oci.write(tmp_path / "oci", tree(tmp_path / "tree", ["a"]), {})
    manifest, config, layer = oci.blobs_of(tmp_path / "oci")
    oci.archive(tmp_path / "oci", "localhost/x:1", tmp_path / "x.tar", frozenset([layer]))
    with tarfile.open(tmp_path / "x.tar") as tar:
        names = set(tar.getnames())
        index = json.load(tar.extractfile("index.json"))
    assert names == {"oci-layout", "index.json", *(f"blobs/sha256/{one[7:]}" for one in (manifest, config))}
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/x:1"


def store(folder: Path, content: bytes, said: bytes) -> str:
    """buildah's store with one image of one layer, whose file has `content` and whose record is of `said`."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        entry = tarfile.TarInfo("app/x")
        entry.size = len(said)
        tar.addfile(entry, io.BytesIO(said))
    whole = plain.getvalue()
    cut = whole.index(said)
    parts = [
        {"type": 2, "payload": base64.b64encode(whole[:cut]).decode()},
        {"type": 1, "name": "app/x", "size": len(said)},
        {"type": 2, "payload": base64.b64encode(whole[cut + len(said) :]).decode()},
    ]
    for name in ("overlay-images/i", "overlay-layers", "overlay/l/diff/app"):
        (folder / name).mkdir(parents=True)
    (folder / "overlay/l/diff/app/x").write_bytes(content)
    with gzip.open(folder / "overlay-layers/l.tar-split.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, parts)))
    digest = f"sha256:{hashlib.sha256(whole).hexdigest()}"
    layer = {"id": "l", "diff-digest": digest, "diff-size": len(whole)}
    (folder / "overlay-layers/layers.json").write_text(json.dumps([layer]))
    (folder / "overlay-images/images.json").write_text(json.dumps([{"id": "i", "layer": "l", "names": ["x:1"]}]))
    key = base64.b64encode(b"sha256:i").decode()
    (folder / f"overlay-images/i/={key}").write_bytes(b"{}")
    return digest


def test_a_layer_is_put_together_again_byte_by_byte(tmp_path: Path):
    digest = store(tmp_path / "store", b"hello", b"hello")
    container_storage.export(tmp_path / "store", "x:1", tmp_path / "oci")
    assert oci.blobs_of(tmp_path / "oci")[2] == digest
    written = oci.blob_path(tmp_path / "oci", digest).read_bytes()
    assert f"sha256:{hashlib.sha256(written).hexdigest()}" == digest


def test_a_layer_whose_file_was_changed_in_the_store_is_refused(tmp_path: Path):
    store(tmp_path / "store", b"hallo", b"hello")
    with pytest.raises(PlatformError, match="its record says"):
        container_storage.export(tmp_path / "store", "x:1", tmp_path / "oci")


def test_the_base_image_has_the_name_that_the_containerfile_asks_for():
    assert f"ARG BASE={buildah.BASE}\n" in buildah.FILE.read_text()
