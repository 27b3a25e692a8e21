"""All images of the cluster: made, and loaded into the node."""

from __future__ import annotations

from pathlib import Path

from k8s.cluster import buildah, third_party
from k8s.cluster.load import load
from k8s.cluster.places import IMAGES
from k8s.cluster.say import phase

VERSION = "0.1.0"


def build_ours(targets: tuple[str, ...] = buildah.TARGETS) -> dict[str, Path]:
    """Build Tidegate's own images from the clone; their OCI layouts by full name."""
    layouts = {}
    for target in targets:
        layout = IMAGES / f"tidegate-{target}"
        with phase(f"built image {target} from {buildah.FILE.name}"):
            buildah.build(target, layout)
        layouts[name_of(target)] = layout
    return layouts


def load_ours(targets: tuple[str, ...] = buildah.TARGETS) -> list[str]:
    """Build and load Tidegate's own images; names of those that changed. Pods keep what they were started with."""
    return [name for name, layout in build_ours(targets).items() if load(layout, name)]


def load_third_party() -> None:
    """Make and load the others."""
    for image in third_party.make():
        load(image.layout, image.full_name)


def name_of(target: str) -> str:
    """The full name of one of our images."""
    return f"localhost/tidegate/{target}:{VERSION}"
