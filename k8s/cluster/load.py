"""Bring images into the node's containerd: only those whose digest differs, and of them only the layers it lacks."""

from __future__ import annotations

from pathlib import Path

from k8s.cluster import oci
from k8s.cluster.commands import ctr
from k8s.cluster.places import IMAGES
from k8s.cluster.say import phase


def load(layout: Path, name: str) -> bool:
    """Make `name` in the node be the layout's image, by its tag and by its digest; True when something was brought."""
    here, exact = present(), by_digest(layout, name)
    changed = here.get(name) != oci.manifest_of(layout)["digest"]
    if changed:
        with phase(f"loaded {name}"):
            known = frozenset(ctr("content", "list", "--quiet").split())
            path = IMAGES / "load.tar"
            oci.archive(layout, name, path, known)
            ctr("images", "import", path)
            path.unlink()
    if exact not in here:
        # an import knows a tag only; what is deployed is named by digest
        ctr("images", "tag", "--force", name, exact)
    return changed


def by_digest(layout: Path, name: str) -> str:
    """``NAME@sha256:…`` of the image ``NAME:TAG`` that is in the layout."""
    return f"{name.rpartition(':')[0]}@{oci.manifest_of(layout)['digest']}"


def present() -> dict[str, str]:
    """Digest of each image of the node, by its name."""
    rows = (line.split() for line in ctr("images", "list").splitlines()[1:])
    return {row[0]: row[2] for row in rows}
