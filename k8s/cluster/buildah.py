"""Build the Containerfile's images with buildah, as root, without a registry; everything of it lives under `IMAGES`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from k8s.cluster import debian
from k8s.cluster.commands import patiently, run
from k8s.cluster.container_storage import export
from k8s.cluster.places import CLONE, IMAGES

BASE = "docker.io/library/python:3.11-slim-bookworm"
"""What the Containerfile starts from; here it is made from Debian's packages and has the same name."""
ROOM = 10 << 30
"""Bytes free on the disk below which the layers of earlier builds are dropped."""
TARGETS = ("serving", "components")
FILE = CLONE / "components" / "Containerfile"
_STAMP = "base.made-from"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def build(target: str, layout: Path, store: Path = IMAGES / "buildah", cache: bool = True) -> str:
    """Build one target into an OCI layout; the manifest's digest. Steps whose inputs did not change are not run."""
    (store / "tmp").mkdir(parents=True, exist_ok=True)
    if (store / _STAMP).exists() and shutil.disk_usage(store).free < ROOM:
        _buildah(store, "rmi", "--all", "--force")
        (store / _STAMP).unlink()
    _base(store)
    certificates = Path(os.environ.get("SSL_CERTFILE", _BUNDLE))
    # a machine behind a proxy trusts that proxy's authority: the build does, the image does not have it
    trust = ("--volume", f"{certificates}:{_BUNDLE}:ro") if certificates.exists() else ()
    name = f"localhost/tidegate/{target}:build"
    _buildah(
        store,
        "build",
        *("--isolation", "chroot", "--pull-never", "--timestamp", "0", "--target", target, "--tag", name),
        *(("--layers",) if cache else ("--no-cache",)),
        *("--file", FILE, "--ignorefile", f"{FILE}.dockerignore", *trust, CLONE),
    )
    return export(store / "root", name, layout)


def base_packages(store: Path = IMAGES / "buildah") -> dict[str, str]:
    """What the base of the last build was made from: Debian's packages and their versions."""
    lines = (store / _STAMP).read_text().splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))


def _base(store: Path) -> None:
    """Make the base image anew when Debian's packages changed."""
    made_from = debian.versions(debian.PYTHON)
    stamp = store / _STAMP
    if stamp.exists() and stamp.read_text() == made_from:
        return
    tree = store / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    debian.unpack(debian.PYTHON, tree)
    for name in ("python", "python3", "python3.11"):
        (tree / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    file = store / "Containerfile.base"
    file.write_text("FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/bin:/bin\n")
    _buildah(store, "build", "--timestamp", "0", "--tag", BASE, "--file", file, tree)
    shutil.rmtree(tree)
    stamp.write_text(made_from)


def _buildah(store: Path, verb: str, *words: str | Path) -> str:
    places = ("--root", store / "root", "--runroot", store / "run", "--storage-driver", "overlay")
    return run(*patiently("buildah", *places, verb, *words), env={"TMPDIR": str(store / "tmp")})
