"""All images of the cluster: made, and loaded into the node."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from k8s.cluster import buildah, third_party
from k8s.cluster.load import by_digest, load
from k8s.cluster.places import IMAGES
from k8s.cluster.say import phase

TAG = "0.1.0"
"""What manifests name. A tag is never `latest`: the kubelet would try to pull it."""


def load_ours(targets: tuple[str, ...] = buildah.TARGETS, tag: str = TAG) -> list[str]:
    """Build Tidegate's own images from the clone and load what changed; the names that changed.

    Pods keep the image that they were started with: `kubectl rollout restart` brings them the new one.
    """
    changed = []
    with alone():
        for target in targets:
            layout, name = IMAGES / f"tidegate-{target}", name_of(target, tag)
            with phase(f"built image {target} from {buildah.FILE.name}"):
                buildah.build(target, layout)
            if load(layout, name):
                changed.append(name)
    return changed


def digests(targets: tuple[str, ...] = buildah.TARGETS, tag: str = TAG) -> dict[str, str]:
    """Tidegate's own images, as they were last loaded, by digest."""
    return {target: by_digest(IMAGES / f"tidegate-{target}", name_of(target, tag)) for target in targets}


def load_third_party(without: frozenset[str] = frozenset()) -> None:
    """Make and load the others, but for those of the programs `without`."""
    with alone():
        for image in third_party.make(without):
            load(image.layout, image.full_name)


def name_of(target: str, tag: str = TAG) -> str:
    """The full name of one of our images."""
    return f"localhost/tidegate/{target}:{tag}"


@contextmanager
def alone() -> Iterator[None]:
    """One build at a time: two clones may share the cluster."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (IMAGES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
